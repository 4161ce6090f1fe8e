// What the Node.js programs of the matrix share: where to connect, and one JSON line per check. Results hold nothing
// that differs from run to run (no pids, times or OIDs).
'use strict'

const { createHash } = require('node:crypto')

const env = process.env

exports.login = {
  host: env.PGHOST,
  port: Number(env.PGPORT),
  user: env.PGUSER,
  password: env.PGPASSWORD,
  database: env.PGDATABASE,
}

// Prepared statements that outlive a transaction: only where one server connection belongs to one client.
exports.cache = env.PGCORRAL_CACHE === 'on'

exports.reported = [
  'application_name', 'client_encoding', 'DateStyle', 'default_transaction_read_only', 'in_hot_standby',
  'integer_datetimes', 'IntervalStyle', 'is_superuser', 'server_encoding', 'session_authorization',
  'standard_conforming_strings', 'TimeZone', 'server_version',
]

exports.shown = [
  'client_encoding', 'TimeZone', 'DateStyle', 'IntervalStyle', 'standard_conforming_strings', 'application_name',
]

exports.series = 'select g, repeat(md5(g::text), 32) as text from generate_series(1, 10000) g order by g'

// Length and hash of a value too big to print.
exports.digest = value => {
  const data = Buffer.from(value)
  return { bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') }
}

// What a check throws when the driver cannot do it; the text says why.
class Skip extends Error {}
exports.Skip = Skip

// JSON has no bytes, no Infinity and no bigint.
exports.plain = value => {
  if (Buffer.isBuffer(value)) return { hex: value.toString('hex') }
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value))) return String(value)
  if (Array.isArray(value)) return value.map(exports.plain)
  return value
}

exports.refusal = error => {
  if (!error.code) throw error
  const found = {}
  for (const name of ['code', 'severity', 'message', 'detail', 'hint', 'position', 'constraint', 'constraint_name', 'where']) {
    if (error[name] !== undefined) found[name] = error[name]
  }
  return found
}

exports.attempt = async call => {
  try {
    await call
  } catch (error) {
    return exports.refusal(error)
  }
  return 'no error'
}

exports.sleep = milliseconds => new Promise(done => setTimeout(done, milliseconds))

const emit = line => new Promise(done => process.stdout.write(JSON.stringify(line) + '\n', done))

const perform = async (name, check) => {
  try {
    await emit({ check: name, result: exports.plain(await check()) })
  } catch (error) {
    if (error instanceof Skip) {
      await emit({ check: name, skipped: error.message })
      return true
    }
    console.error(error)
    await emit({ check: name, failed: `${error.name}: ${error.message}` })
    return false
  }
  return true
}

// Runs `before`, the checks in their order and `after`; the exit code says whether all passed.
exports.main = async (checks, before, after) => {
  await before()
  let passed = true
  for (const [name, check] of Object.entries(checks)) passed = await perform(name, check) && passed
  await after()
  process.exit(passed ? 0 : 1)
}
