// What the Node.js programs of this matrix share: the clients, and every check that is the same for each library. See
// scenario.py, of which this is the same in JavaScript; statements here have `$1` for their parameters.
//
// A library is an object:
//   table                                  the name of the program's own table
//   connect(number), close(session)        a session is whatever connect() resolves to
//   transaction(session, work)             work(rows) within a transaction; rows(text, ...values) gives arrays
//   alone(session, text)                   a statement outside a transaction
//   work, autocommit, types, isolation, batch, cursor, uniqueViolation, savepointError: in the library's ordinary style
//   pool(), listen(session, channel, notify): absent where it has none
'use strict'

const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { main, Skip, sleep } = require('../../node/matrix.js')

const clients = Array.from({ length: 20 }, (_, number) => ({ number }))
const extra = { number: clients.length }

const zones = ['Asia/Tokyo', 'America/Lima', 'Europe/Warsaw', 'UTC', 'Australia/Sydney']

const settings = ['application_name', 'TimeZone', 'statement_timeout', 'search_path']
// Columns have names of their own: most libraries give rows as objects.
const showing = names => `select ${names.map(name => `current_setting('${name}') as ${name}`).join(', ')}`
const show = showing(settings)

// As many different statements; a client runs some of them, and each client begins with another.
const statements = Array.from({ length: 24 }, (_, number) => `select $1::int + ${number} as sum, 'statement ${number}' as text`)

exports.columns = ['id', 'client', 'label', 'amount', 'data', 'tags', 'seen', 'flag', 'ratio', 'mood']

const rowId = (number, row) => number * 10000 + row
exports.rowId = rowId

const moment = turn => new Date(Date.UTC(2025, 2, 30, turn, 59, 59, 123))
exports.moment = moment

// A row of the client's, with a value of every type; some are null.
const values = (number, turn) => ({
  id: rowId(number, turn),
  client: number,
  label: `client ${number}, turn ${turn}`,
  amount: `${number * 100 + turn}.25`,
  data: { turn, list: [1, null, 'ü'] },
  tags: [`t${turn}`, 'a,b', 'c"d', ''],
  seen: moment(turn),
  flag: turn % 2 === 0,
  ratio: turn % 3 ? null : turn / 8,
  mood: ['calm', 'wild'][turn % 2],
})
exports.values = values

// Between two invocations. Of another length for each, so that clients overtake each other.
const pause = (number, turn) => sleep((number * 7 + turn * 13) % 11 * 3)

// The server's error as a result; any other error fails the check. ORMs wrap it.
exports.refusal = async call => {
  try {
    await call
  } catch (error) {
    const refused = error.code ? error : error.cause
    if (!refused?.code) throw error
    return [refused.code, refused.constraint ?? refused.constraint_name ?? null, refused.message]
  }
  throw new Error('no error')
}

exports.run = library => {
  const { table } = library

  // One transaction of one statement; its rows.
  const statement = (client, text, ...values) => library.transaction(client.session, rows => rows(text, ...values))

  const all = work => Promise.all(clients.map(work))

  // Invocations of every client: once(client, turn).
  const turns = (count, once) => all(async client => {
    const seen = []
    for (let turn = 0; turn < count; turn++) {
      seen.push(await once(client, turn))
      await pause(client.number, turn)
    }
    return seen
  })

  // A transaction of each of three other clients: whatever stays on a server connection has other company now.
  const others = (text = `select count(*) >= 0 from ${table}`) =>
    Promise.all(clients.slice(1, 4).map(client => statement(client, text)))

  const connect = async client => { client.session = await library.connect(client.number) }

  // Gives a client that has just connected; what it leaves behind goes with it.
  const withExtra = async work => {
    // The one before has left a moment ago, and may still be on its way out.
    await sleep(100)
    await connect(extra)
    try {
      return await work()
    } finally {
      await library.close(extra.session)
    }
  }

  // One transaction for each text, of a client that has just connected, with others' transactions in between.
  const script = (...texts) => withExtra(async () => {
    const seen = []
    for (const text of texts) {
      seen.push(await statement(extra, text))
      await others()
    }
    return seen
  })

  const execute = texts => withExtra(async () => {
    for (const text of texts) await statement(extra, text)
  })

  const setAll = (client, ...texts) => library.transaction(client.session, async rows => {
    for (const text of texts) await rows(text)
  })

  const setAlone = async (client, ...texts) => {
    for (const text of texts) await library.alone(client.session, text)
  }

  const clear = [`drop table if exists ${table}`, `drop type if exists ${table}_mood`, `drop sequence if exists ${table}_seq`]

  const prepare = [
    ...clear,
    `create type ${table}_mood as enum ('calm', 'wild')`,
    `create sequence ${table}_seq`,
    `create table ${table} (id bigint primary key, client int not null, label text, amount numeric(12, 2),
      data jsonb, tags text[], seen timestamptz, flag bool, ratio float8, mood ${table}_mood)`,
  ]

  const failingTwice = (fail, first) => turns(3, async (client, turn) => {
    const low = first + 2 * turn
    const error = await fail(client.session, values(client.number, low), values(client.number, low + 1))
    const text = `select id, label from ${table} where client = $1 and id >= $2 order by id`
    return [error, await statement(client, text, client.number, rowId(client.number, low))]
  })

  const checks = {
    async connect() {
      await all(connect)
      return all(client => statement(client, 'select 1 as one, current_user::text, current_database()::text'))
    },

    transactions: () => turns(12, ({ session, number }, turn) => library.work(session, number, turn)),

    autocommit: () => turns(4, ({ session, number }, turn) => library.autocommit(session, number, turn)),

    types: () => turns(4, ({ session, number }, turn) => library.types(session, number, 100 + turn)),

    unique_violation: () => failingTwice(library.uniqueViolation, 200),

    savepoint_error: () => failingTwice(library.savepointError, 300),

    prepared_reuse: () => turns(8, ({ session, number }, turn) => library.transaction(session, async rows => {
      const seen = []
      for (let place = 0; place < 5; place++) {
        seen.push(...await rows(statements[(number * 5 + (place + turn) % 5 * 7) % statements.length], turn))
      }
      return seen
    })),

    isolation: () => turns(3, ({ session }) => library.isolation(session)),

    batch: () => turns(2, async (client, turn) => {
      const low = 400 + 20 * turn
      const rows = Array.from({ length: 20 }, (_, row) => values(client.number, low + row))
      const done = await library.batch(client.session, rows)
      const text = `select count(*), sum(amount) from ${table} where client = $1 and id >= $2`
      return [done, await statement(client, text, client.number, rowId(client.number, low))]
    }),

    async cursor() {
      if (!library.cursor) throw new Skip('has no cursor of its own')
      return turns(2, ({ session }) => library.cursor(session))
    },

    session_settings: () => all(async client => {
      const { number } = client
      const path = ['public, pg_catalog', 'pg_catalog, public'][number % 2]
      const set = [setAll, setAlone][Math.floor(number / 2) % 2]
      await set(client, `set application_name = 'client ${number}'`, `set timezone = '${zones[number % zones.length]}'`,
        `set statement_timeout = '${20000 + number}ms'`, `set search_path = ${path}`)
      const seen = []
      for (let turn = 0; turn < 4; turn++) {
        seen.push(await statement(client, show))
        await pause(number, turn)
      }
      seen.push(await statement(client, `select set_config('application_name', 'again ${number}', false)`))
      await pause(number, 4)
      seen.push(await statement(client, show))
      return seen
    }),

    settings_undone: () => turns(2, async (client, turn) => {
      const show = showing(['statement_timeout', 'TimeZone', 'lock_timeout'])
      await setAll(client, "set local statement_timeout = '25s'", "set local timezone = 'Asia/Tokyo'")
      await pause(client.number, turn)
      const seen = [await statement(client, show)]
      const undone = library.transaction(client.session, async rows => {
        await rows("set timezone = 'Asia/Tokyo'")
        await rows("set lock_timeout = '26s'")
        throw new Undo()
      })
      await undone.catch(error => { if (!(error instanceof Undo)) throw error })
      await pause(client.number, turn + 1)
      seen.push(await statement(client, show))
      await setAll(client, 'savepoint s', "set lock_timeout = '27s'", 'rollback to savepoint s', 'release savepoint s')
      await pause(client.number, turn + 2)
      seen.push(await statement(client, show))
      return seen
    }),

    // Back to what the client asked for when it logged in.
    settings_reset: () => turns(4, async (client, turn) => {
      const resets = ['reset application_name', 'set timezone to default', 'reset statement_timeout', 'reset search_path']
      const run = turn >= 2 ? setAlone : setAll
      await run(client, "set application_name = 'to be reset'", "set timezone = 'Asia/Tokyo'",
        "set statement_timeout = '28s'", 'set search_path = pg_catalog, public')
      await pause(client.number, turn)
      await run(client, ...(turn % 2 === 0 ? resets : ['reset all']))
      await pause(client.number, turn + 1)
      return statement(client, show)
    }),

    async pool_checkout() {
      const pool = library.pool()
      try {
        return await turns(3, client => pool.run(client.number))
      } finally {
        await pool.end()
      }
    },

    async listen_notify() {
      if (!library.listen) throw new Skip('has no place for notifications')
      const channel = `${table}_channel`
      const notify = async () => {
        await others()
        for (const payload of ['one', 'two']) await statement(clients[0], `select pg_notify('${channel}', '${payload}')::text`)
        await others()
      }
      return withExtra(() => library.listen(extra.session, channel, notify))
    },

    temp_table: () => script('create temporary table scratch (n int)', 'insert into scratch values (1), (2), (3)',
      'select sum(n) from scratch', 'insert into scratch select n + 3 from scratch returning n',
      'select sum(n) from scratch', 'drop table scratch', "select to_regclass('scratch')::text"),

    advisory_lock: () => withExtra(async () => {
      const key = Array.from(Buffer.from(table)).reduce((sum, byte) => sum + byte, 0)
      const seen = []
      for (const [client, text] of [
        [extra, `select pg_advisory_lock(${key})::text`],
        [clients[0], `select pg_try_advisory_xact_lock(${key})`],
        [extra, `select count(*) from pg_locks where locktype = 'advisory' and objid = ${key} and pid = pg_backend_pid()`],
        [extra, `select pg_advisory_unlock(${key})`],
        [clients[0], `select pg_try_advisory_xact_lock(${key})`],
      ]) {
        seen.push(await statement(client, text))
        await others()
      }
      return seen
    }),

    hold_cursor: () => script('declare held cursor with hold for select g from generate_series(1, 10) g', 'fetch 3 from held',
      'fetch 4 from held', 'close held', "select count(*) from pg_cursors where name = 'held'"),

    // Asked for in the transaction that drew the number, and again in later ones.
    sequence_value: () => withExtra(async () => {
      const seen = []
      for (const text of [`select setval('${table}_seq', 1000)`, `select nextval('${table}_seq'), currval('${table}_seq')`,
        `select currval('${table}_seq')`, 'select lastval()']) {
        seen.push(await statement(extra, text))
        await others(`select nextval('${table}_seq')`)
      }
      return seen
    }),

    sql_prepare: () => script('prepare doubled (int) as select $1 * 2', 'execute doubled (4)', 'execute doubled (5)',
      'deallocate doubled', "select count(*) from pg_prepared_statements where name = 'doubled'"),

    async reconnect() {
      await all(({ session }) => library.close(session))
      await all(connect)
      return turns(3, ({ session, number }, turn) => library.work(session, number, 500 + turn))
    },

    // What a new client finds: nothing of what others did.
    async no_leaks() {
      await all(({ session }) => library.close(session))
      await all(connect)
      return all(async client => {
        const seen = []
        for (const text of [
          show, showing(['lock_timeout', 'transaction_isolation']),
          'select count(*) from pg_listening_channels()',
          "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
          'select count(*) from pg_cursors where is_holdable',
          "select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)",
          'select count(*) from pg_prepared_statements where from_sql',
        ]) seen.push(await statement(client, text))
        return seen
      })
    },
  }

  const names = readFileSync(join(__dirname, '..', 'checks.txt'), 'utf8').trim().split('\n')
  main(
    Object.fromEntries(names.map(name => [name, checks[name]])),
    () => execute(prepare),
    async () => {
      await all(({ session }) => library.close(session))
      await execute(clear)
    },
  )
}

// Ends a transaction that is to be rolled back.
class Undo extends Error {}
