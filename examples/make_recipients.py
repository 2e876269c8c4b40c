"""Write recipients.csv: 500 people who do not exist, and three lines as they occur in real lists.

All domains are reserved (RFC 2606), so that a mistake reaches nobody. The same lines come out at every run.
"""

import csv
import io
import json
from pathlib import Path
from random import Random

COUNT = 500
COLUMNS = ("address", "name", "city", "plan", "items")

# Names from all over the world, each with its ASCII form for the address.
GIVEN = """
    Ada/ada Åsa/asa José/jose Zoë/zoe François/francois Jürgen/juergen Łukasz/lukasz Şebnem/sebnem
    Ørjan/oerjan Nguyễn/nguyen Siobhán/siobhan Miloš/milos Þóra/thora Ștefan/stefan Mary-Ann/mary-ann
    D'Angelo/d.angelo Ελένη/eleni Иван/ivan Олена/olena محمد/mohammed ليلى/layla נועה/noa דוד/david
    さくら/sakura 健太/kenta 小明/xiaoming 지우/jiwoo प्रिया/priya สมชาย/somchai Tomás/tomas Chloé/chloe
    Göran/goeran Inês/ines Bob/bob Grace/grace Linus/linus Katherine/katherine Alan/alan Radia/radia
"""
FAMILY = """
    Lovelace/lovelace Sjöberg/sjoeberg Núñez/nunez Müller/mueller O'Brien/obrien Wójcik/wojcik
    Yıldız/yildiz Trần/tran Novák/novak Παπαδόπουλος/papadopoulos Шевченко/shevchenko حداد/haddad
    כהן/cohen 田中/tanaka 王/wang 김/kim Sharma/sharma van_der_Berg/vanderberg Jónsdóttir/jonsdottir
    Silva/silva Hopper/hopper Turing/turing 🥐_Baker/baker
"""
CITIES = (
    "Köln", "Málaga", "Århus", "Łódź", "İzmir", "Reykjavík", "Αθήνα", "Київ", "القاهرة", "חיפה", "東京",
    "São Paulo", "Hà Nội", "Zürich", "Oslo", "Dublin", "Springfield", "L'Aquila", "Saint-Étienne", "서울",
)  # fmt: skip
ITEMS = (
    "Sourdough, 1 kg", "Pão de queijo", "Semla", "Crème brûlée tart", "Simit", "Rye & caraway",
    "Brezel 🥨", "メロンパン", "חלה", "كنافة", "Śliwka w cieście", "Oat <soft> rolls", "Croissant 🥐",
    "Kanelbulle", '"Day-old" bag', "Focaccia",
)  # fmt: skip
DOMAINS = (
    "post.example", "mail.example", "example.com", "example.org", "example.net", "team.example",
    "bücher.example", "bäckerei-köln.example", "例え.example", "почта.example",
)  # fmt: skip
PLANS = ("guest", "guest", "guest", "member", "member", "founder")

# Local parts beyond ASCII: only servers that offer SMTPUTF8 take them.
BEYOND_ASCII = (("josé.núñez@correo.example", "José Núñez"), ("用户@例え.example", "用户"))

BAD_LINES = {
    120: ("ann@post.example, bob@post.example", "Ann and Bob", "Oslo", "member", "[]"),
    260: ("grace.hopper.mail.example", "Grace Hopper", "Dublin", "founder", '["Semla"]'),
    400: ("shortened@mail.example", "A line that was cut off", "Köl"),
}


def people(random: Random) -> list[tuple[str, ...]]:
    """Return the good lines, each with another address."""
    given_names, family_names = names(GIVEN), names(FAMILY)
    lines = {
        address: (address, name, random.choice(CITIES), random.choice(PLANS), items(random))
        for address, name in BEYOND_ASCII
    }
    while len(lines) < COUNT:
        given, first = random.choice(given_names)
        family, last = random.choice(family_names)
        address = f"{first}.{last}@{random.choice(DOMAINS)}"
        lines[address] = (
            address,
            f"{given} {family}",
            random.choice(CITIES),
            random.choice(PLANS),
            items(random),
        )
    result: list[tuple[str, ...]] = list(lines.values())
    random.shuffle(result)
    return result


def names(table: str) -> list[list[str]]:
    """Return the names and their ASCII forms; an underscore in the table is a space."""
    return [word.replace("_", " ").split("/") for word in table.split()]


def items(random: Random) -> str:
    """Return the cell of a list: none to four things, as JSON."""
    return json.dumps(random.sample(ITEMS, random.choice((0, 1, 2, 2, 3, 4))), ensure_ascii=False)


def recipients() -> str:
    """Return the whole file."""
    lines = people(Random(2026))
    for position, line in BAD_LINES.items():
        lines.insert(position, line)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([COLUMNS, *lines])
    return out.getvalue()


if __name__ == "__main__":
    Path(__file__).with_name("recipients.csv").write_text(recipients(), encoding="utf-8")
