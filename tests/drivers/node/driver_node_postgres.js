// node-postgres (pg), with pg-cursor and pg-copy-streams.
'use strict'

const { once } = require('node:events')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { Client } = require('pg')
const copyStreams = require('pg-copy-streams')
const Cursor = require('pg-cursor')
const { attempt, cache, digest, login, main, reported, series, shown, sleep } = require('./matrix.js')

const table = 'matrix_node_postgres'

const connect = async (settings = {}) => {
  const client = new Client({ ...login, application_name: 'matrix node-postgres', ssl: false, ...settings })
  // An error on an idle connection must not end the program: the next query reports it.
  client.on('error', () => {})
  await client.connect()
  return client
}

const connected = async (work, settings) => {
  const client = await connect(settings)
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const withEmptyTable = work => connected(async client => {
  await client.query(`delete from ${table}`)
  return work(client)
})

// A query with parameters; a named statement when the cache is on.
const names = new Map()
const query = (client, text, values) => {
  if (!cache) return client.query({ text, values, rowMode: 'array' })
  if (!names.has(text)) names.set(text, `statement_${names.size}`)
  return client.query({ text, values, rowMode: 'array', name: names.get(text) })
}

const one = async (client, text, values) => (await query(client, text, values)).rows[0][0]

const checks = {
  connect: () => connected(async client => (await query(client, 'select 1, current_user::text, current_database()::text')).rows),

  async parameters() {
    const client = new Client({ ...login, application_name: 'matrix node-postgres' })
    const seen = {}
    client.connection.on('parameterStatus', ({ parameterName, parameterValue }) => { seen[parameterName] = parameterValue })
    await client.connect()
    await client.end()
    return reported.map(name => [name, seen[name] ?? null])
  },

  show: () => connected(async client => {
    const seen = {}
    for (const name of shown) seen[name] = await one(client, `show ${name}`)
    return seen
  }),

  startup_parameters: () => connected(async client => {
    const seen = []
    for (let round = 0; round < 3; round++) {
      for (const name of ['TimeZone', 'DateStyle', 'statement_timeout', 'search_path']) seen.push(await one(client, `show ${name}`))
    }
    return seen
  }, { statement_timeout: 54321, options: '-c TimeZone=Asia/Tokyo -c DateStyle=German -c search_path=pg_catalog,public' }),

  set_follows: () => connected(client => connected(async other => {
    await client.query("set TimeZone = 'Asia/Tokyo'")
    await client.query("set IntervalStyle = 'iso_8601'")
    await other.query("set TimeZone = 'America/Lima'")
    const seen = []
    for (let round = 0; round < 3; round++) {
      for (const each of [client, other]) seen.push([await one(each, 'show TimeZone'), await one(each, 'show IntervalStyle')])
    }
    return seen
  })),

  wrong_password: () => attempt(connect({ password: 'not the password' })),

  simple_query: () => connected(async client => {
    const result = await client.query("select 7 as seven, 'text' as text, null as nothing")
    return [result.command, result.rowCount, result.fields.map(field => field.name), result.rows]
  }),

  empty_query: () => connected(async client => {
    const simple = await client.query('')
    const extended = await client.query({ text: '', values: [], name: cache ? 'empty' : undefined })
    return [simple.command, simple.rows, extended.rows, await one(client, 'select 1')]
  }),

  types: () => connected(async client => {
    const samples = [
      ['smallint', -32768], ['int', 2147483647], ['bigint', '-9223372036854775808'], ['bigint', 9007199254740993n],
      ['numeric', '12345678901234567890.000000001'], ['numeric', 'NaN'], ['real', 1.5], ['float8', 0.1],
      ['float8', -Infinity], ['bool', true], ['bool', false], ['text', ''],
      ['text', "quote ' backslash \\ dollar $1 percent %s"], ['text', 'zażółć 日本語 🐎 e\u0301'], ['varchar(5)', 'short'],
      ['char(5)', 'pad'], ['bytea', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))], ['bytea', Buffer.alloc(0)],
      ['date', '2024-02-29'], ['time', '23:59:59.999999'], ['timestamp', '1969-07-20 20:17:40.123456'],
      ['timestamptz', new Date(Date.UTC(2025, 2, 30, 1, 0, 0, 7))], ['interval', '-3 days 00:00:05.000007'],
      ['json', { a: [1, null, 'ü'], b: {} }], ['jsonb', JSON.stringify([true, 1.5, 'x'])],
      ['uuid', '12345678-1234-5678-1234-567812345678'], ['inet', '192.0.2.1/24'], ['int[]', [1, null, 3]],
      ['text[]', ['a,b', 'c"d', null, '{}', '']], ['int[]', [[1, 2], [3, 4]]], ['int4range', '[3,9)'],
      ['int', null], ['text', null],
    ]
    await client.query("set TimeZone = 'UTC'")
    const seen = []
    for (const [type, value] of samples) {
      const { rows } = await query(client, `select $1::${type}, ($1::${type})::text`, [value])
      seen.push([type, ...rows[0]])
    }
    // The binary format of results.
    const binary = await client.query({ text: 'select $1::int, $2::text, $3::bytea', values: [42, 'ü', Buffer.from([0, 255])], binary: true, rowMode: 'array' })
    return [...seen, binary.rows[0]]
  }),

  large_text: () => connected(async client => {
    const sent = 'grüße '.repeat(150000)
    const received = await one(client, 'select $1::text', [sent])
    return [digest(received), received === sent]
  }),

  repeated: () => connected(async client => {
    const seen = []
    for (let n = 0; n < 20; n++) seen.push(await one(client, 'select $1::int * 2', [n]))
    return seen
  }),

  rows: () => connected(async client => {
    const { rows } = await query(client, 'select g from generate_series(1, 100000) g')
    return [rows.length, rows.reduce((sum, row) => sum + row[0], 0)]
  }),

  streaming: () => connected(async client => {
    await client.query('begin')
    const cursor = client.query(new Cursor('select g from generate_series(1, $1) g', [20000], { rowMode: 'array' }))
    let sum = 0
    for (let rows = await cursor.read(1000); rows.length > 0; rows = await cursor.read(1000)) {
      for (const row of rows) sum += row[0]
    }
    await cursor.close()
    const early = client.query(new Cursor('select g from generate_series(1, 5000) g', [], { rowMode: 'array' }))
    const first = await early.read(3)
    await early.close()
    await client.query('commit')
    return [sum, first, await one(client, 'select 1')]
  }),

  transaction_commit: () => withEmptyTable(async client => {
    await client.query('begin')
    await query(client, `insert into ${table} values ($1, $2)`, [1, 'kept'])
    await query(client, `insert into ${table} values ($1, $2)`, [2, 'kept too'])
    await client.query('commit')
    return (await query(client, `select id, label from ${table} order by id`)).rows
  }),

  transaction_rollback: () => withEmptyTable(async client => {
    await client.query('begin')
    await client.query(`insert into ${table} values (1, 'gone')`)
    const inside = await one(client, `select count(*) from ${table}`)
    await client.query('rollback')
    return [inside, await one(client, `select count(*) from ${table}`)]
  }),

  savepoints: () => withEmptyTable(async client => {
    await client.query('begin')
    await client.query(`insert into ${table} values (1, 'outer')`)
    await client.query('savepoint first')
    await client.query(`insert into ${table} values (2, 'undone')`)
    await client.query('rollback to first')
    const failure = await attempt(query(client, `insert into ${table} values ($1, 'twice')`, [1]))
    await client.query('rollback to first')
    await client.query('release first')
    await client.query(`insert into ${table} values (3, 'after')`)
    await client.query('commit')
    return [failure, (await query(client, `select id, label from ${table} order by id`)).rows]
  }),

  errors: () => withEmptyTable(async client => {
    await client.query(`insert into ${table} values (1, 'first')`)
    const own = "do $$ begin raise exception 'own' using errcode = 'P0123', hint = 'H', detail = 'D'; end $$"
    return [
      await attempt(client.query('selec 1')),
      await attempt(client.query({ text: 'selec $1', values: [1] })),
      await attempt(query(client, `insert into ${table} values ($1, $2)`, [1, 'again'])),
      await attempt(query(client, 'select 1 / $1::int', [0])),
      await attempt(query(client, 'select * from no_such_table')),
      await attempt(query(client, 'select $1::int', ['not a number'])),
      await attempt(client.query(own)),
      await one(client, 'select 1'),
    ]
  }),

  error_in_transaction: () => connected(async client => {
    await client.query('begin')
    const first = await attempt(client.query('select 1/0'))
    const second = await attempt(query(client, 'select 1'))
    await client.query('rollback')
    return [first, second, await one(client, 'select 1')]
  }),

  multi_statement: () => connected(async client => {
    const results = await client.query("select 1 as a; select 'two' as b, 2 as c; values (3), (4)")
    return results.map(result => [result.command, result.rows])
  }),

  multi_statement_error: () => withEmptyTable(async client => {
    const failure = await attempt(client.query(`insert into ${table} values (1, 'undone'); select 1/0; select 2`))
    return [failure, await one(client, `select count(*) from ${table}`)]
  }),

  pipeline: () => connected(async client => {
    const results = await Promise.all(Array.from({ length: 50 }, (_, n) => one(client, 'select $1::int + 1', [n])))
    return [results, await one(client, 'select 1')]
  }, { pipeline: true }),

  pipeline_error: () => connected(client => Promise.all([
    attempt(query(client, 'select 1')), attempt(query(client, 'select 1/$1::int', [0])), attempt(query(client, 'select 2')),
  ]), { pipeline: true }),

  copy_in: () => withEmptyTable(async client => {
    const lines = function * () {
      for (let n = 0; n < 20000; n++) yield `${n}\t${n % 7 === 0 ? 'tab\\tand newline\\n' : '\\N'}\n`
    }
    const copy = client.query(copyStreams.from(`copy ${table} (id, label) from stdin`))
    await pipeline(Readable.from(lines()), copy)
    const summary = `select count(*), count(label), sum(id), md5(string_agg(label, '' order by id)) from ${table}`
    return [copy.rowCount, (await query(client, summary)).rows]
  }),

  copy_out: () => connected(async client => {
    const copy = client.query(copyStreams.to("copy (select g, 'row ' || g from generate_series(1, 50000) g) to stdout"))
    const blocks = []
    for await (const block of copy) blocks.push(block)
    return [copy.rowCount, digest(Buffer.concat(blocks)), await one(client, 'select 1')]
  }),

  copy_in_bad_row: () => withEmptyTable(async client => {
    const copy = client.query(copyStreams.from(`copy ${table} (id, label) from stdin`))
    const failure = await attempt(pipeline(Readable.from(['1\tgood\nbad\tbad\n', '2\tnot read\n'.repeat(1000)]), copy))
    return [failure, await one(client, `select count(*) from ${table}`)]
  }),

  copy_in_aborted: () => withEmptyTable(async client => {
    const copy = client.query(copyStreams.from(`copy ${table} (id, label) from stdin`))
    const failed = once(copy, 'error')
    copy.write('1\tgood\n')
    copy.destroy(new Error('changed my mind'))
    const [error] = await failed
    return [error.message, await one(client, `select count(*) from ${table}`)]
  }),

  notice: () => connected(async client => {
    const notices = []
    client.on('notice', ({ severity, code, message, detail }) => notices.push([severity, code, message, detail ?? null]))
    await client.query("do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$")
    await client.query("do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
    return notices
  }),

  cancel: () => connected(async client => {
    const seen = []
    for (let round = 0; round < 3; round++) {
      const running = attempt(client.query('select pg_sleep(50) /* node-postgres */'))
      await untilRunning('select pg_sleep(50) /* node-postgres */%')
      await cancel(client)
      seen.push(await running, await one(client, "select 'usable'"))
    }
    return seen
  }),

  statement_timeout: () => connected(async client => {
    await client.query('begin')
    await client.query("set local statement_timeout = '50ms'")
    const failure = await attempt(client.query('select pg_sleep(50)'))
    await client.query('rollback')
    return [failure, await one(client, "select 'usable'"), await one(client, 'show statement_timeout')]
  }),

  async parallel() {
    await withEmptyTable(client => client.query(`insert into ${table} select g, 'counter', 0 from generate_series(0, 9) g`))
    const counts = await Promise.all(Array.from({ length: 20 }, (_, number) => worker(number)))
    return [counts, await connected(async client => (await query(client, `select count(*), sum(amount) from ${table}`)).rows)]
  },

  big_value: () => connected(async client => {
    const text = await one(client, "select repeat('0123456789', 1048576)")
    const blob = await one(client, "select convert_to(repeat('xyz', 3000000), 'UTF8')")
    return [digest(text), digest(blob), await one(client, 'select 1')]
  }),

  big_rows: () => connected(async client => {
    const { rows } = await query(client, series)
    return [rows.length, digest(rows.map(row => row[1]).join(''))]
  }),
}

// Waits until the server says that it runs a statement like this.
const untilRunning = like => connected(async observer => {
  const text = "select count(*)::int from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like $1"
  for (let tries = 0; tries < 750; tries++) {
    if (await one(observer, text, [like]) > 0) return
    await sleep(20)
  }
})

// Sends a CancelRequest and waits for the end of its connection: PostgreSQL signals the backend twice for it (signal_child
// in postmaster.c), and the second signal must not hit the next query.
const cancel = async client => {
  const { connection } = new Client({ ...login, ssl: false })
  const ended = once(connection, 'end')
  connection.once('connect', () => connection.cancel(client.processID, client.secretKey))
  connection.connect(login.port, login.host)
  await ended
}

const worker = number => connected(async client => {
  for (let turn = 0; turn < 10; turn++) {
    await client.query('begin')
    await query(client, `update ${table} set amount = amount + 1 where id = $1`, [turn])
    await query(client, `insert into ${table} values ($1, $2)`, [1000 + number * 10 + turn, 'mine'])
    await client.query('commit')
  }
  const low = 1000 + number * 10
  return one(client, `select count(*) from ${table} where id between $1 and $2`, [low, low + 9])
})

main(
  checks,
  () => connected(async client => {
    await client.query(`drop table if exists ${table}`)
    await client.query(`create table ${table} (id int primary key, label text, amount int)`)
  }),
  () => connected(client => client.query(`drop table ${table}`)),
)
