'use strict'
// node nodemailer_client.cjs MODE PORT CONNECTIONS MESSAGES WARM_UP FILE [ROWS_PER_COMMIT]
// MODE raw: transports the prebuilt messages of FILE (a JSON array of [address, message]).
// MODE sqlite: sends to the rows of the database FILE, each rendered and built here, and books every message.
// The last line is a JSON object: seconds, cpu_seconds, peak_rss_mb.

const fs = require('node:fs')
const nodemailer = require('nodemailer')

const [mode, port, connections, messages, warmUp, file, rowsPerCommit] = process.argv.slice(2)
const PAGE = 500

const transporter = nodemailer.createTransport({
    host: '127.0.0.1', port: Number(port), secure: false, ignoreTLS: true,
    pool: true, maxConnections: Number(connections), maxMessages: Infinity,
})

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escape = (value) => value.replace(/[&<>"']/g, (character) => escapes[character])

// A template is split once; per message its pieces are only joined.
function compile (template, filter) {
    const pieces = template.split(/\{\{ (\w+) \}\}/)
    return (row) => {
        let text = pieces[0]
        for (let at = 1; at < pieces.length; at += 2) text += filter(row[pieces[at]]) + pieces[at + 1]
        return text
    }
}

function rawWork () {
    const all = JSON.parse(fs.readFileSync(file, 'utf8'))
    const from = all.from
    let at = 0
    return {
        next () {
            const [to, raw] = all.messages[at++]
            return { id: at, mail: { envelope: { from, to: [to] }, raw } }
        },
        done () {},
        finish () {},
    }
}

// better-sqlite3, or the module of Node where it could not be compiled.
function open (path) {
    try {
        return { database: new (require('better-sqlite3'))(path), driver: 'better-sqlite3' }
    } catch {
        return { database: new (require('node:sqlite').DatabaseSync)(path), driver: 'node:sqlite' }
    }
}

function sqliteWork () {
    const { database, driver } = open(file)
    database.exec('PRAGMA journal_mode = WAL')
    database.exec('PRAGMA synchronous = FULL')
    const { from, subject, text, html } = JSON.parse(database.prepare('SELECT value FROM content').get().value)
    const renderSubject = compile(subject, (value) => value)
    const renderText = compile(text, (value) => value)
    const renderHtml = compile(html, escape)
    const claim = database.prepare(`UPDATE deliveries SET state = 'claimed' WHERE id IN
        (SELECT id FROM deliveries WHERE state = 'pending' ORDER BY id LIMIT ${PAGE}) RETURNING id, address, variables`)
    const book = database.prepare("UPDATE deliveries SET state = 'sent' WHERE id = ? AND state = 'claimed'")
    const log = database.prepare('INSERT INTO send_logs (delivery_id, reply, start_time, end_time) VALUES (?, ?, ?, ?)')
    let rows = []
    let results = []
    const most = Number(rowsPerCommit)

    function commit () {
        database.exec('BEGIN IMMEDIATE')
        for (const { id, reply, began, ended } of results) {
            book.run(id)
            log.run(id, reply, began, ended)
        }
        database.exec('COMMIT')
        results = []
    }

    return {
        driver,
        next () {
            if (rows.length === 0) rows = claim.all().reverse()
            const row = rows.pop()
            const values = JSON.parse(row.variables)
            return {
                id: row.id,
                began: Date.now(),
                mail: {
                    from: { name: 'Saltwind Bakery', address: from }, to: { name: values.name, address: row.address },
                    subject: renderSubject(values), text: renderText(values), html: renderHtml(values),
                },
            }
        },
        done ({ id, began }, info) {
            results.push({ id, reply: info.response, began, ended: Date.now() })
            if (results.length >= most) commit()
        },
        finish: commit,
    }
}

async function send (work, count) {
    let left = count
    // Two messages per connection: one on its way, one that is being built.
    await Promise.all(Array.from({ length: 2 * Number(connections) }, async () => {
        while (left > 0) {
            left -= 1
            const one = work.next()
            work.done(one, await transporter.sendMail(one.mail))
        }
    }))
    work.finish()
}

async function main () {
    const work = mode === 'raw' ? rawWork() : sqliteWork()
    await send(work, Number(warmUp))
    const cpu = process.cpuUsage()
    const began = process.hrtime.bigint()
    await send(work, Number(messages))
    const seconds = Number(process.hrtime.bigint() - began) / 1e9
    const used = process.cpuUsage(cpu)
    transporter.close()
    console.log(JSON.stringify({
        seconds, cpu_seconds: (used.user + used.system) / 1e6,
        peak_rss_mb: process.resourceUsage().maxRSS / 1024, builtin_sqlite: work.driver === 'node:sqlite' ? 1 : 0,
    }))
}

main()
