// Drizzle over node-postgres: its query builder in a typed schema, statements prepared by name within transactions.
'use strict'

const { and, arrayContains, count, desc, eq, inArray, not, sql, sum } = require('drizzle-orm')
const { drizzle } = require('drizzle-orm/node-postgres')
const {
  bigint, boolean, doublePrecision, integer, jsonb, numeric, pgEnum, pgTable, text, timestamp,
} = require('drizzle-orm/pg-core')
const { Pool } = require('pg')
const { login } = require('../../node/matrix.js')
const { moment, refusal, rowId, run, values } = require('./scenario.js')

const table = 'default_drizzle'
const items = pgTable(table, {
  id: bigint({ mode: 'number' }).primaryKey(),
  client: integer().notNull(),
  label: text(),
  amount: numeric({ precision: 12, scale: 2 }),
  data: jsonb(),
  tags: text().array(),
  seen: timestamp({ withTimezone: true }),
  flag: boolean(),
  ratio: doublePrecision(),
  mood: pgEnum(`${table}_mood`, ['calm', 'wild'])(),
})

const open = max => {
  const pool = new Pool({ ...login, max })
  return { pool, db: drizzle(pool) }
}

const insert = (tx, ...rows) => tx.insert(items).values(rows)

const latest = tx => tx.select({ id: items.id }).from(items).where(eq(items.client, sql.placeholder('client')))
  .orderBy(desc(items.seen)).limit(sql.placeholder('limit')).prepare('latest')

// Statements with parameters for the checks that are the same for all libraries.
const raw = (statement, values) => {
  if (values.length === 0) return sql.raw(statement)
  const parts = statement.split(/\$\d+/).map(part => sql.raw(part))
  return sql.join(parts.flatMap((part, at) => at < values.length ? [part, sql`${values[at]}`] : [part]))
}

run({
  table,

  async connect() {
    const client = open(1)
    await client.db.execute(sql`select 1`)
    return client
  },

  close: ({ pool }) => pool.end(),

  transaction: ({ db }, work) => db.transaction(tx => work(async (statement, ...values) =>
    (await tx.execute(raw(statement, values))).rows.map(row => Object.values(row)))),

  alone: ({ db }, text) => db.execute(sql.raw(text)),

  work: ({ db }, number, turn) => db.transaction(async tx => {
    await insert(tx, values(number, turn))
    const row = await tx.select({ label: items.label, amount: items.amount }).from(items)
      .where(eq(items.id, sql.placeholder('id'))).prepare('row').execute({ id: rowId(number, turn) })
    const { rowCount } = await tx.update(items).set({ amount: sql`${items.amount} + 1.5` }).where(eq(items.client, number))
    const sums = await tx.select({ count: count(), sum: sum(items.amount) }).from(items).where(eq(items.client, number))
    return [row, rowCount, sums, turn % 3 === 0 ? await latest(tx).execute({ client: number, limit: 2 }) : null]
  }),

  async autocommit({ db }, number, turn) {
    const own = eq(items.id, rowId(number, turn))
    const { rowCount } = await db.update(items).set({ flag: not(items.flag) }).where(own)
    return [rowCount, await db.select({ label: items.label, flag: items.flag }).from(items).where(own), await db.$count(items, own)]
  },

  types: ({ db }, number, turn) => db.transaction(async tx => {
    await insert(tx, values(number, turn))
    const found = await tx.$count(items, and(eq(items.client, number), eq(items.seen, moment(turn)),
      inArray(items.mood, ['calm', 'wild']), arrayContains(items.tags, [`t${turn}`])))
    return [await tx.select().from(items).where(eq(items.id, rowId(number, turn))), found]
  }),

  async uniqueViolation({ db }, row, again) {
    const failure = await refusal(db.transaction(async tx => {
      await insert(tx, row)
      await insert(tx, row)
    }))
    await db.transaction(tx => insert(tx, row, again))
    return failure
  },

  savepointError: ({ db }, row, again) => db.transaction(async tx => {
    await insert(tx, row)
    const failure = await refusal(tx.transaction(tx => insert(tx, row)))
    await insert(tx, again)
    return failure
  }),

  async isolation({ db }) {
    const seen = []
    for (const options of [{ isolationLevel: 'serializable', accessMode: 'read only' }, {}]) {
      await db.transaction(async tx => {
        for (const statement of [sql`show transaction_isolation`, sql`show transaction_read_only`]) {
          seen.push((await tx.execute(statement)).rows)
        }
      }, options)
    }
    return seen
  },

  batch: ({ db }, rows) => db.transaction(async tx => {
    const inserted = await insert(tx, ...rows).returning({ id: items.id })
    const { rowCount } = await insert(tx, ...rows.slice(0, 5))
      .onConflictDoUpdate({ target: items.id, set: { label: sql`upper(excluded.label)` } })
    return [inserted.length, rowCount]
  }),

  pool() {
    const { pool, db } = open(4)
    return { run: number => db.transaction(tx => tx.$count(items, eq(items.client, number))), end: () => pool.end() }
  },
})
