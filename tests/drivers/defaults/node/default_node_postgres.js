// node-postgres as it comes: statements have no names, but for those that the program names. With pg-cursor. A client is
// a pool of one connection, as the documentation has it for functions.
'use strict'

const { Pool } = require('pg')
const Cursor = require('pg-cursor')
const { login, sleep } = require('../../node/matrix.js')
const { columns, moment, refusal, rowId, run, values } = require('./scenario.js')

const table = 'default_node_postgres'
const insert = `insert into ${table} values (${columns.map((_, at) => `$${at + 1}`).join(', ')})`

const open = max => new Pool({ ...login, max })

const withClient = async (pool, work) => {
  const client = await pool.connect()
  try {
    return await work(client)
  } finally {
    client.release()
  }
}

const transaction = (pool, work, begin = 'begin') => withClient(pool, async client => {
  await client.query(begin)
  try {
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback')
    throw error
  }
})

const all = async (client, text, values, name) =>
  (await client.query({ text, values, name, rowMode: 'array' })).rows

// Names are each client's own, in the order in which it meets the statements: one name is many statements.
const names = new WeakMap()
const nameOf = (client, text) => {
  if (!names.has(client)) names.set(client, new Map())
  const own = names.get(client)
  if (!own.has(text)) own.set(text, `statement_${own.size}`)
  return own.get(text)
}

const work = (pool, number, turn) => transaction(pool, async client => {
  await client.query({ name: 'insert', text: insert, values: Object.values(values(number, turn)) })
  const [row] = await all(client, `select label, amount from ${table} where id = $1`, [rowId(number, turn)], 'row')
  const { rowCount } = await client.query(`update ${table} set amount = amount + $1 where client = $2`, [1.5, number])
  const [sums] = await all(client, `select count(*), sum(amount) from ${table} where client = $1`, [number])
  const latest = `select id from ${table} where client = $1 order by seen desc limit $2`
  return [row, rowCount, sums, turn % 3 === 0 ? await all(client, latest, [number, 2]) : null]
})

run({
  table,

  async connect() {
    const pool = open(1)
    // Connected outside the handler.
    await withClient(pool, () => {})
    return pool
  },

  close: pool => pool.end(),

  transaction: (pool, work) => transaction(pool, client => work((text, ...values) =>
    values.length > 0 ? all(client, text, values, nameOf(client, text)) : all(client, text))),

  alone: (pool, text) => pool.query(text),

  work,

  // Without taking a client out of the pool.
  async autocommit(pool, number, turn) {
    const id = rowId(number, turn)
    const { rowCount } = await pool.query(`update ${table} set flag = not flag where id = $1`, [id])
    return [rowCount, await all(pool, `select label, flag from ${table} where id = $1`, [id], 'state'),
      await all(pool, 'select now() is not null')]
  },

  types: (pool, number, turn) => transaction(pool, async client => {
    await client.query(insert, Object.values(values(number, turn)))
    const text = `select count(*) from ${table} where client = $1 and mood = any($2) and seen = $3 and tags @> $4`
    const found = await all(client, text, [number, ['calm', 'wild'], moment(turn), [`t${turn}`]])
    return [await all(client, `select * from ${table} where id = $1`, [rowId(number, turn)]), found]
  }),

  async uniqueViolation(pool, row, again) {
    const failure = await refusal(transaction(pool, async client => {
      await client.query(insert, Object.values(row))
      await client.query(insert, Object.values(row))
    }))
    await transaction(pool, async client => {
      for (const each of [row, again]) await client.query(insert, Object.values(each))
    })
    return failure
  },

  savepointError: (pool, row, again) => transaction(pool, async client => {
    await client.query(insert, Object.values(row))
    await client.query('savepoint twice')
    const failure = await refusal(client.query({ name: 'insert', text: insert, values: Object.values(row) }))
    await client.query('rollback to savepoint twice')
    await client.query({ name: 'insert', text: insert, values: Object.values(again) })
    return failure
  }),

  async isolation(pool) {
    const seen = []
    for (const begin of ['begin isolation level serializable read only', 'begin']) {
      await transaction(pool, async client => {
        seen.push(await all(client, 'show transaction_isolation'), await all(client, 'show transaction_read_only'))
      }, begin)
    }
    return seen
  },

  // Queued by the client, one after the other; and one INSERT of many rows.
  batch: (pool, rows) => transaction(pool, async client => {
    const done = await Promise.all(rows.map(row => client.query(insert, Object.values(row))))
    const { rowCount } = await client.query(`update ${table} set label = more.label
      from unnest($1::bigint[], $2::text[]) more (id, label) where more.id = ${table}.id`,
    [rows.map(row => row.id), rows.map(row => row.label.toUpperCase())])
    return [done.length, rowCount]
  }),

  cursor: pool => transaction(pool, async client => {
    const cursor = client.query(new Cursor('select g from generate_series(1, $1) g', [1000], { rowMode: 'array' }))
    let sum = 0
    for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) {
      for (const [g] of rows) sum += g
    }
    await cursor.close()
    return sum
  }),

  pool() {
    const pool = open(4)
    return {
      run: number => all(pool, `select count(*) from ${table} where client = $1`, [number], 'count'),
      end: () => pool.end(),
    }
  },

  listen: (pool, channel, notify) => withClient(pool, async client => {
    const got = []
    client.on('notification', ({ payload }) => got.push(payload))
    await client.query(`listen ${channel}`)
    await notify()
    for (let tries = 0; tries < 400 && got.length < 2; tries++) await sleep(50)
    await client.query(`unlisten ${channel}`)
    return [got, await all(client, "select 'usable'")]
  }),
})
