// postgres.js as it comes: it prepares every statement with parameters by a name of its own, and pipelines. A client is an
// instance with one connection.
'use strict'

const postgres = require('postgres')
const { login } = require('../../node/matrix.js')
const { columns, moment, refusal, rowId, run, values } = require('./scenario.js')

const table = 'default_postgres_js'

const open = max => postgres({ ...login, max, onnotice: () => {} })

const all = async rows => Array.from(await rows, row => Object.values(row))

const insert = (sql, ...rows) => sql`insert into ${sql(table)} ${sql(rows.map(row => ({ ...row, data: sql.json(row.data) })), columns)}`

run({
  table,

  async connect() {
    const sql = open(1)
    await sql`select 1`
    return sql
  },

  close: sql => sql.end(),

  transaction: (sql, work) => sql.begin(sql => work((text, ...values) =>
    all(sql.unsafe(text, values, { prepare: values.length > 0 })))),

  alone: (sql, text) => sql.unsafe(text),

  work: (sql, number, turn) => sql.begin(async sql => {
    await insert(sql, values(number, turn))
    const [row] = await all(sql`select label, amount from ${sql(table)} where id = ${rowId(number, turn)}`)
    const { count } = await sql`update ${sql(table)} set amount = amount + ${1.5} where client = ${number}`
    const [sums] = await all(sql`select count(*), sum(amount) from ${sql(table)} where client = ${number}`)
    const latest = sql`select id from ${sql(table)} where client = ${number} order by seen desc limit ${2}`
    return [row, count, sums, turn % 3 === 0 ? await all(latest) : null]
  }),

  async autocommit(sql, number, turn) {
    const id = rowId(number, turn)
    // Three at once: in a pipeline.
    const [updated, rows, now] = await Promise.all([
      sql`update ${sql(table)} set flag = not flag where id = ${id}`,
      all(sql`select label, flag from ${sql(table)} where id = ${id}`),
      all(sql`select now() is not null`),
    ])
    return [updated.count, rows, now]
  },

  types: (sql, number, turn) => sql.begin(async sql => {
    await insert(sql, values(number, turn))
    const found = await all(sql`select count(*) from ${sql(table)} where client = ${number} and seen = ${moment(turn)}
      and mood in ${sql(['calm', 'wild'])} and tags @> ${[`t${turn}`]} and data->>'turn' = ${String(turn)}`)
    return [await all(sql`select * from ${sql(table)} where id = ${rowId(number, turn)}`), found]
  }),

  async uniqueViolation(sql, row, again) {
    const failure = await refusal(sql.begin(async sql => {
      await insert(sql, row)
      await insert(sql, row)
    }))
    await sql.begin(sql => [insert(sql, row), insert(sql, again)])
    return failure
  },

  savepointError: (sql, row, again) => sql.begin(async sql => {
    await insert(sql, row)
    const failure = await refusal(sql.savepoint(sql => insert(sql, row)))
    await insert(sql, again)
    return failure
  }),

  async isolation(sql) {
    const seen = []
    for (const options of ['isolation level serializable read only', '']) {
      await sql.begin(options, async sql => {
        seen.push(await all(sql`show transaction_isolation`), await all(sql`show transaction_read_only`))
      })
    }
    return seen
  },

  batch: (sql, rows) => sql.begin(async sql => {
    const { count } = await insert(sql, ...rows.slice(0, 10))
    const done = await Promise.all(rows.slice(10).map(row => insert(sql, row)))
    return [count, done.map(each => each.count)]
  }),

  cursor: sql => sql.begin(async sql => {
    let sum = 0
    await sql`select g from generate_series(1, ${1000}::int) g`.cursor(100, rows => { for (const { g } of rows) sum += g })
    const first = []
    for await (const rows of sql`select g from generate_series(1, 1000) g`.cursor(3)) {
      first.push(...rows.map(row => row.g))
      if (first.length >= 6) break
    }
    return [sum, first]
  }),

  pool() {
    const sql = open(4)
    return { run: number => all(sql`select count(*) from ${sql(table)} where client = ${number}`), end: () => sql.end() }
  },

  // It has a connection of its own for what it listens to.
  async listen(sql, channel, notify) {
    const got = []
    const both = new Promise(done => {
      sql.listen(channel, payload => { if (got.push(payload) === 2) done() }).then(notify)
    })
    await both
    return [got, await all(sql`select 'usable'`)]
  },
})
