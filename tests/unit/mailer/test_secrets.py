import json
import pickle
import stat
from pathlib import Path

import pytest
from pydantic import BaseModel

from mailer.errors import CannotStart
from mailer.secrets import Keyring, SealBroken, SealingKey, Secret, load_keyring

CANARY = "canary-pa55word"


class Holder(BaseModel):
    password: Secret


def test_a_secret_never_prints_itself() -> None:
    secret = Secret(CANARY)
    printed = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>40}",
        f"{secret:s}",
        repr([secret]),
    ]
    holder = Holder(password=secret)
    printed += [repr(holder), holder.model_dump_json(), str(holder.model_dump())]
    assert not any(CANARY in text for text in printed)
    assert holder.password.reveal() == CANARY
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_what_was_sealed_opens_for_the_same_owner_and_field() -> None:
    ring = Keyring(SealingKey.generate())
    sealed = ring.seal(Secret(CANARY), owner="account-1", field="password")
    assert CANARY not in sealed
    assert ring.open(sealed, owner="account-1", field="password").reveal() == CANARY


@pytest.mark.parametrize(
    ("owner", "field"), [("account-2", "password"), ("account-1", "user"), ("account-1p", "assword")]
)
def test_a_sealed_text_moved_elsewhere_does_not_open(owner: str, field: str) -> None:
    ring = Keyring(SealingKey.generate())
    sealed = ring.seal(Secret(CANARY), owner="account-1", field="password")
    with pytest.raises(SealBroken):
        ring.open(sealed, owner=owner, field=field)


def test_an_altered_text_does_not_open() -> None:
    ring = Keyring(SealingKey.generate())
    sealed = ring.seal(Secret(CANARY), owner="a", field="f")
    form, key_id, packed = sealed.split(".")
    for altered in (
        f"{form}.{key_id}.A{packed[1:]}" if packed[0] != "A" else f"{form}.{key_id}.B{packed[1:]}",
        f"{form}.{key_id}.!",
        "",
        "v2.x.y",
        CANARY,
    ):
        with pytest.raises(SealBroken):
            ring.open(altered, owner="a", field="f")


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    old, new = SealingKey.generate(), SealingKey.generate()
    before = Keyring(old).seal(Secret(CANARY), owner="a", field="f")
    ring = Keyring(new, old)
    assert ring.open(before, owner="a", field="f").reveal() == CANARY
    assert not ring.is_current(before)
    after = ring.seal(Secret(CANARY), owner="a", field="f")
    assert ring.is_current(after)
    with pytest.raises(SealBroken, match="not among the sealing keys"):
        Keyring(old).open(after, owner="a", field="f")


def test_the_key_file_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "sealing.key"
    sealed = load_keyring(path).seal(Secret(CANARY), owner="a", field="f")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keyring(path).open(sealed, owner="a", field="f").reveal() == CANARY
    assert [file.name for file in path.parent.iterdir()] == ["sealing.key"]


def test_a_key_file_that_is_none_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    path.write_text("not a key\n")
    with pytest.raises(CannotStart, match="32 bytes in base64"):
        load_keyring(path)
    assert path.read_text() == "not a key\n"


def test_keys_given_in_the_settings_win_over_the_file(tmp_path: Path) -> None:
    first, second = SealingKey.generate(), SealingKey.generate()
    ring = load_keyring(tmp_path / "none.key", given=Secret(f"{first.to_text()},{second.to_text()}"))
    assert ring.seal(Secret("x"), owner="a", field="f").split(".")[1] == first.id
    assert not (tmp_path / "none.key").exists()
    with pytest.raises(CannotStart, match="MAILER_SEALING_KEY"):
        load_keyring(tmp_path / "none.key", given=Secret("short"))


def test_a_key_does_not_print_itself() -> None:
    key = SealingKey.generate()
    assert key.to_text() not in repr(key)
    assert repr(key.key) not in repr(key)
