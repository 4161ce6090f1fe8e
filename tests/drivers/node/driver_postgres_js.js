// postgres.js: pipelines by itself, sends Parse and Describe with Flush when it needs the parameters' types.
'use strict'

const postgres = require('postgres')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { attempt, cache, digest, login, main, reported, series, shown, Skip, sleep } = require('./matrix.js')

const table = 'matrix_postgres_js'

const open = (settings = {}) => postgres({
  ...login, max: 1, ssl: false, prepare: cache, onnotice: () => {}, ...settings,
  connection: { application_name: 'matrix postgres.js', ...settings.connection },
})

// A pool of one connection (unless the settings say more) that is closed when the work is done.
const connected = async (work, settings) => {
  const sql = open(settings)
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

const withEmptyTable = (work, settings) => connected(async sql => {
  await sql`delete from ${sql(table)}`
  return work(sql)
}, settings)

const one = async rows => Object.values((await rows)[0])[0]
const all = async rows => Array.from(await rows, row => Object.values(row))
const count = sql => one(sql`select count(*) from ${sql(table)}`)
const contents = sql => all(sql`select id, label from ${sql(table)} order by id`)

const checks = {
  connect: () => connected(sql => all(sql`select 1 as one, current_user::text, current_database()::text`)),

  parameters: () => connected(async sql => {
    await sql`select 1`
    return reported.map(name => [name, sql.parameters[name] ?? null])
  }),

  show: () => connected(async sql => {
    const seen = {}
    for (const name of shown) seen[name] = await one(sql.unsafe(`show ${name}`))
    return seen
  }),

  startup_parameters: () => connected(async sql => {
    const seen = []
    for (let round = 0; round < 3; round++) {
      for (const name of ['TimeZone', 'DateStyle', 'statement_timeout', 'search_path']) seen.push(await one(sql.unsafe(`show ${name}`)))
    }
    return seen
  }, { connection: { TimeZone: 'Asia/Tokyo', DateStyle: 'German', statement_timeout: 54321, search_path: 'pg_catalog,public' } }),

  set_follows: () => connected(sql => connected(async other => {
    await sql`set TimeZone = 'Asia/Tokyo'`
    await sql`set IntervalStyle = 'iso_8601'`
    await other`set TimeZone = 'America/Lima'`
    const seen = []
    for (let round = 0; round < 3; round++) {
      for (const each of [sql, other]) {
        seen.push([await one(each`show TimeZone`), await one(each`show IntervalStyle`), each.parameters.TimeZone])
      }
    }
    return seen
  })),

  wrong_password: () => connected(sql => attempt(sql`select 1`), { password: 'not the password' }),

  simple_query: () => connected(async sql => {
    const result = await sql`select 7 as seven, 'text' as text, null as nothing`.simple()
    return [result.command, result.count, result.columns.map(column => column.name), Object.values(result[0])]
  }),

  empty_query: () => connected(async sql => [await all(sql.unsafe('')), await all(sql.unsafe('').simple()), await one(sql`select 1`)]),

  types: () => connected(async sql => {
    const samples = [
      ['smallint', -32768], ['int', 2147483647], ['bigint', '-9223372036854775808'], ['bigint', 9007199254740993n],
      ['numeric', '12345678901234567890.000000001'], ['numeric', 'NaN'], ['real', 1.5], ['float8', 0.1],
      ['float8', -Infinity], ['bool', true], ['bool', false], ['text', ''],
      ['text', "quote ' backslash \\ dollar $1 percent %s"], ['text', 'zażółć 日本語 🐎 e\u0301'], ['varchar(5)', 'short'],
      ['char(5)', 'pad'], ['bytea', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))], ['bytea', Buffer.alloc(0)],
      ['date', '2024-02-29'], ['time', '23:59:59.999999'], ['timestamp', '1969-07-20 20:17:40.123456'],
      ['timestamptz', new Date(Date.UTC(2025, 2, 30, 1, 0, 0, 7))], ['interval', '-3 days 00:00:05.000007'],
      ['json', { a: [1, null, 'ü'], b: {} }], ['jsonb', { b: [true, 1.5, 'x'] }],
      ['uuid', '12345678-1234-5678-1234-567812345678'], ['inet', '192.0.2.1/24'], ['int[]', [1, null, 3]],
      ['text[]', ['a,b', 'c"d', null, '{}', '']], ['int[]', [[1, 2], [3, 4]]], ['int4range', '[3,9)'],
      ['int', null], ['text', null],
    ]
    await sql`set TimeZone = 'UTC'`
    const seen = []
    for (const [type, value] of samples) {
      const text = `select $1::${type} as value, ($1::${type})::text as text`
      seen.push([type, ...(await all(sql.unsafe(text, [value], { prepare: cache })))[0]])
    }
    return seen
  }),

  large_text: () => connected(async sql => {
    const sent = 'grüße '.repeat(150000)
    const received = await one(sql`select ${sent}::text as text`)
    return [digest(received), received === sent]
  }),

  repeated: () => connected(async sql => {
    const seen = []
    for (let n = 0; n < 20; n++) seen.push(await one(sql`select ${n}::int * 2 as doubled`))
    return seen
  }),

  rows: () => connected(async sql => {
    const rows = await sql`select g from generate_series(1, 100000) g`
    return [rows.length, rows.reduce((sum, row) => sum + row.g, 0)]
  }),

  streaming: () => connected(async sql => {
    const inside = await sql.begin(async sql => {
      let sum = 0
      await sql`select g from generate_series(1, ${20000}::int) g`.cursor(1000, rows => { for (const row of rows) sum += row.g })
      const first = []
      for await (const rows of sql`select g from generate_series(1, 5000) g`.cursor(3)) {
        first.push(...rows.map(row => row.g))
        if (first.length >= 6) break
      }
      return [sum, first]
    })
    let each = 0
    await sql`select g from generate_series(1, 1000) g`.forEach(row => { each += row.g })
    return [inside, each, await one(sql`select 1 as one`)]
  }),

  transaction_commit: () => withEmptyTable(async sql => {
    await sql.begin(async sql => {
      await sql`insert into ${sql(table)} values (${1}, ${'kept'})`
      await sql`insert into ${sql(table)} ${sql([{ id: 2, label: 'kept too' }, { id: 3, label: null }])}`
    })
    return contents(sql)
  }),

  transaction_rollback: () => withEmptyTable(async sql => {
    let inside
    const outcome = await sql.begin(async sql => {
      await sql`insert into ${sql(table)} values (1, 'gone')`
      inside = await count(sql)
      throw new Error('changed my mind')
    }).catch(error => error.message)
    return [inside, outcome, await count(sql)]
  }),

  savepoints: () => withEmptyTable(async sql => {
    let failure
    await sql.begin(async sql => {
      await sql`insert into ${sql(table)} values (1, 'outer')`
      failure = await attempt(sql.savepoint(sql => sql`insert into ${sql(table)} values (${1}, 'twice')`))
      await sql.savepoint(async sql => {
        await sql`insert into ${sql(table)} values (2, 'undone')`
        throw new Error('undo')
      }).catch(() => {})
      await sql`insert into ${sql(table)} values (3, 'after')`
    })
    return [failure, await contents(sql)]
  }),

  errors: () => withEmptyTable(async sql => {
    await sql`insert into ${sql(table)} values (1, 'first')`
    const own = "do $$ begin raise exception 'own' using errcode = 'P0123', hint = 'H', detail = 'D'; end $$"
    return [
      await attempt(sql.unsafe('selec 1')),
      await attempt(sql`selec ${1}`),
      await attempt(sql`insert into ${sql(table)} values (${1}, ${'again'})`),
      await attempt(sql`select 1 / ${0}::int`),
      await attempt(sql`select * from no_such_table`),
      await attempt(sql`select ${'not a number'}::text::int`),
      await attempt(sql.unsafe(own)),
      await one(sql`select 1 as one`),
    ]
  }),

  error_in_transaction: () => connected(async sql => {
    let first, second
    const outcome = await attempt(sql.begin(async sql => {
      first = await attempt(sql`select 1/0`)
      second = await attempt(sql`select 1`)
    }))
    return [first, second, outcome, await one(sql`select 1 as one`)]
  }),

  multi_statement: () => connected(async sql => {
    const results = await sql.unsafe("select 1 as a; select 'two' as b, 2 as c; values (3), (4)")
    return results.map(result => [result.command, Array.from(result)])
  }),

  multi_statement_error: () => withEmptyTable(async sql => {
    const failure = await attempt(sql.unsafe(`insert into ${table} values (1, 'undone'); select 1/0; select 2`))
    return [failure, await count(sql)]
  }),

  pipeline: () => connected(async sql => {
    const results = await Promise.all(Array.from({ length: 50 }, (_, n) => one(sql`select ${n}::int + 1 as more`)))
    const inside = await sql.begin(sql => Array.from({ length: 10 }, (_, n) => one(sql`select ${n}::int as n`)))
    return [results, inside, await one(sql`select 1 as one`)]
  }),

  pipeline_error: () => connected(sql => Promise.all([
    attempt(sql`select 1`), attempt(sql`select 1/${0}::int`), attempt(sql`select 2`), attempt(sql`selec`), attempt(sql`select 3`),
  ])),

  copy_in: () => withEmptyTable(async sql => {
    const lines = function * () {
      for (let n = 0; n < 20000; n++) yield `${n}\t${n % 7 === 0 ? 'tab\\tand newline\\n' : '\\N'}\n`
    }
    const copy = await sql`copy ${sql(table)} (id, label) from stdin`.writable()
    await pipeline(Readable.from(lines()), copy)
    return all(sql`select count(*) as rows, count(label) as labels, sum(id), md5(string_agg(label, '' order by id)) from ${sql(table)}`)
  }),

  copy_out: () => connected(async sql => {
    // Few rows: this version of the driver can stall by itself once its stream is full.
    const copy = await sql`copy (select g, 'row ' || g from generate_series(1, 500) g) to stdout`.readable()
    const blocks = []
    for await (const block of copy) blocks.push(block)
    return [digest(Buffer.concat(blocks)), await one(sql`select 1 as one`)]
  }),

  async copy_in_bad_row() {
    throw new Skip('has no place for an error after COPY began')
  },

  copy_in_aborted: () => withEmptyTable(async sql => {
    const copy = await sql`copy ${sql(table)} (id, label) from stdin`.writable()
    copy.on('error', () => {})
    copy.write('1\tgood\n')
    copy.destroy(new Error('changed my mind'))
    return count(sql)
  }),

  async notice() {
    const notices = []
    const onnotice = ({ severity, code, message, detail }) => notices.push([severity, code, message, detail ?? null])
    await connected(async sql => {
      await sql.unsafe("do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$")
      await sql.unsafe("do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
    }, { onnotice })
    return notices
  },

  cancel: () => connected(async sql => {
    const running = sql`select pg_sleep(50) /* postgres.js */`
    const outcome = attempt(running)
    await untilRunning('select pg_sleep(50) /* postgres.js */%')
    running.cancel()
    const cancelled = await outcome
    // PostgreSQL signals a backend twice for one CancelRequest (signal_child in postmaster.c), and one cannot wait for
    // the end of this driver's: the second signal may hit the next query.
    const after = await one(sql`select 'usable' as text`).catch(error => {
      if (error.code !== '57014') throw error
      return one(sql`select 'usable' as text`)
    })
    return [cancelled, after]
  }),

  statement_timeout: () => connected(async sql => {
    const failure = await attempt(sql.begin(async sql => {
      await sql`set local statement_timeout = '50ms'`
      await sql`select pg_sleep(50)`
    }))
    return [failure, await one(sql`select 'usable' as text`), await one(sql`show statement_timeout`)]
  }),

  async parallel() {
    await withEmptyTable(sql => sql`insert into ${sql(table)} select g, 'counter', 0 from generate_series(0, 9) g`)
    const counts = await connected(
      sql => Promise.all(Array.from({ length: 20 }, (_, number) => worker(sql, number))), { max: 20 })
    return [counts, await connected(sql => all(sql`select count(*), sum(amount) from ${sql(table)}`))]
  },

  big_value: () => connected(async sql => {
    const text = await one(sql`select repeat('0123456789', 1048576) as text`)
    const blob = await one(sql`select convert_to(repeat('xyz', 3000000), 'UTF8') as blob`)
    return [digest(text), digest(blob), await one(sql`select 1 as one`)]
  }),

  big_rows: () => connected(async sql => {
    const rows = await sql.unsafe(series)
    return [rows.length, digest(rows.map(row => row.text).join(''))]
  }),
}

// Waits until the server says that it runs a statement like this.
const untilRunning = like => connected(async sql => {
  for (let tries = 0; tries < 750; tries++) {
    const running = sql`select count(*)::int from pg_stat_activity
      where state = 'active' and pid <> pg_backend_pid() and query like ${like}`
    if (await one(running) > 0) return
    await sleep(20)
  }
})

const worker = async (sql, number) => {
  for (let turn = 0; turn < 10; turn++) {
    await sql.begin(async sql => {
      await sql`update ${sql(table)} set amount = amount + 1 where id = ${turn}`
      await sql`insert into ${sql(table)} values (${1000 + number * 10 + turn}, ${'mine'})`
    })
  }
  const low = 1000 + number * 10
  return one(sql`select count(*) from ${sql(table)} where id between ${low} and ${low + 9}`)
}

main(
  checks,
  () => connected(async sql => {
    await sql`drop table if exists ${sql(table)}`
    await sql`create table ${sql(table)} (id int primary key, label text, amount int)`
  }),
  () => connected(sql => sql`drop table ${sql(table)}`),
)
