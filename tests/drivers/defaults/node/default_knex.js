// Knex over node-postgres. A client is an instance with a pool of one connection, as a function has it.
'use strict'

const knex = require('knex')
const { login } = require('../../node/matrix.js')
const { moment, refusal, rowId, run, values } = require('./scenario.js')

const table = 'default_knex'

const open = max => knex({ client: 'pg', connection: login, pool: { min: 0, max } })

const insert = (trx, ...rows) => trx(table).insert(rows)

const all = async (trx, text, values = []) => {
  // Knex writes parameters as `?`.
  const { rows } = await (values.length > 0 ? trx.raw(text.replace(/\$\d+/g, '?'), values) : trx.raw(text))
  return rows.map(row => Object.values(row))
}

run({
  table,

  async connect() {
    const db = open(1)
    await db.raw('select 1')
    return db
  },

  close: db => db.destroy(),

  transaction: (db, work) => db.transaction(trx => work((text, ...values) => all(trx, text, values))),

  alone: (db, text) => db.raw(text),

  work: (db, number, turn) => db.transaction(async trx => {
    await insert(trx, values(number, turn))
    const row = await trx(table).select('label', 'amount').where({ id: rowId(number, turn) }).first()
    const changed = await trx(table).where({ client: number }).increment('amount', 1.5)
    const sums = await trx(table).where({ client: number }).count().sum('amount').first()
    const latest = trx(table).where({ client: number }).orderBy('seen', 'desc').limit(2).pluck('id')
    return [row, changed, sums, turn % 3 === 0 ? await latest : null]
  }),

  async autocommit(db, number, turn) {
    const own = { id: rowId(number, turn) }
    const changed = await db(table).where(own).update({ flag: db.raw('not flag') })
    return [changed, await db(table).where(own).select('label', 'flag'), await all(db, 'select now() is not null')]
  },

  types: (db, number, turn) => db.transaction(async trx => {
    await insert(trx, values(number, turn))
    const found = await trx(table).where({ client: number, seen: moment(turn) }).whereIn('mood', ['calm', 'wild'])
      .whereRaw('tags @> ?', [[`t${turn}`]]).whereJsonPath('data', '$.turn', '=', turn).count()
    return [await trx(table).where({ id: rowId(number, turn) }), found]
  }),

  async uniqueViolation(db, row, again) {
    const failure = await refusal(db.transaction(async trx => {
      await insert(trx, row)
      await insert(trx, row)
    }))
    await db.transaction(trx => insert(trx, row, again))
    return failure
  },

  savepointError: (db, row, again) => db.transaction(async trx => {
    await insert(trx, row)
    const failure = await refusal(trx.transaction(trx => insert(trx, row)))
    await insert(trx, again)
    return failure
  }),

  async isolation(db) {
    const seen = []
    for (const options of [{ isolationLevel: 'serializable', readOnly: true }, {}]) {
      await db.transaction(async trx => {
        seen.push(await all(trx, 'show transaction_isolation'), await all(trx, 'show transaction_read_only'))
      }, options)
    }
    return seen
  },

  batch: (db, rows) => db.transaction(async trx => {
    const inserted = await trx.batchInsert(table, rows, 7).returning('id')
    await insert(trx, ...rows.slice(0, 5)).onConflict('id').merge(['label'])
    return inserted.length
  }),

  pool() {
    const db = open(4)
    return { run: number => db(table).where({ client: number }).count(), end: () => db.destroy() }
  },
})
