// What Lambda's runtime does around handler.mjs: one event per line on standard input, one answer per line on standard
// output. It ends when standard input does. Whatever the handler writes to the console goes to standard error.
import { Console } from 'node:console'
import { createInterface } from 'node:readline'
import pg from 'pg'

globalThis.console = new Console(process.stderr)

let started = performance.now()
let connects = []

const micros = from => Math.round((performance.now() - from) * 1000)

// The same, taking notes: a handler should not have to say when it connects.
const connect = pg.Client.prototype.connect
pg.Client.prototype.connect = async function () {
  const begun = performance.now()
  const note = { after_us: micros(started), ok: false }
  connects.push(note)
  try {
    await connect.call(this)
    note.ok = true
  } catch (error) {
    error.atConnect = true
    throw error
  } finally {
    note.took_us = micros(begun)
  }
}

const { handler } = await import('./handler.mjs')

const failure = error => {
  const told = { ok: false, message: String(error?.message ?? error), connect: error?.atConnect === true }
  // Errors of the driver itself are plain errors; those of the system have a `code` that is no SQLSTATE.
  if (error instanceof pg.DatabaseError) return { ...told, sqlstate: error.code, detail: error.detail }
  return error instanceof TypeError || error instanceof ReferenceError ? { ...told, bug: error.name } : told
}

const invoke = async line => {
  started = performance.now()
  connects = []
  const { event, remaining_ms: remaining } = JSON.parse(line)
  const deadline = started + remaining
  const context = { getRemainingTimeInMillis: () => Math.max(0, Math.floor(deadline - performance.now())) }
  let answer
  try {
    answer = { ok: true, ...await handler(event, context) }
  } catch (error) {
    answer = failure(error)
  }
  return { ...answer, connects: connects.slice(0, 16) }
}

const say = answer => new Promise(done => process.stdout.write(JSON.stringify(answer) + '\n', done))

await say({ init: true })
for await (const line of createInterface({ input: process.stdin })) await say(await invoke(line))
process.exit(0)
