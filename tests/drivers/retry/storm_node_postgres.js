// A storm of callers with the retries of docs/retry/node-postgres.js. README.md here says what is printed.
'use strict'

const path = require('node:path')
const { Caller } = require(path.join(__dirname, '../../../docs/retry/node-postgres.js'))

const [CALLERS, TURNS, DEADLINE_MS] = [24, 5, 50000]
const sums = { retries: 0, told: 0, honoured: 0 }

function onRetry(error, pause) {
  sums.retries += 1
  const told = /retry_after_ms=(\d+)/.exec(error.detail ?? '')
  if (!told) return
  sums.told += 1
  sums.honoured += Number(told[1]) === pause
}

async function serve(caller, number) {
  for (let turn = 0; turn < TURNS; turn++) {
    const work = async (client) => {
      await client.query('insert into served values ($1, $2)', [number, turn])
      await client.query('select pg_sleep(0.03)')
    }
    await caller.run(work, { deadlineMs: DEADLINE_MS, onRetry })
  }
}

// An error that no retry makes good: its SQLSTATE, and how often it was tried again.
async function refused(caller) {
  let triedAgain = 0
  const count = () => { triedAgain += 1 }
  try {
    await caller.run((client) => client.query('selec 1'), { deadlineMs: DEADLINE_MS, idempotent: true, onRetry: count })
  } catch (error) {
    return { sqlstate: error.code, tried_again: triedAgain }
  }
  return { sqlstate: null, tried_again: triedAgain }
}

async function one(_, number) {
  const caller = new Caller(process.env.PGDSN)
  await serve(caller, number)
  await caller.close()
}

async function main() {
  await Promise.all(Array.from({ length: CALLERS }, one))
  const alone = new Caller(process.env.PGDSN)
  const result = await refused(alone)
  await alone.close()
  console.log(JSON.stringify({ ...sums, ...result }))
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
