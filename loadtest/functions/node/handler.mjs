// A function on AWS Lambda that uses PostgreSQL through pgcorral, with node-postgres.
//
// The connection is kept in the module: an instance opens it in its first invocation and finds it again in the next. The
// script of the event runs in one transaction, because that is what the proxy lends a server connection for.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

let client = null

// The instance's connection, opened anew if there is none or the driver knows that it is lost.
const connect = async () => {
  if (client) return client
  const opened = new pg.Client({
    connectionString: process.env.DATABASE_URL,
    // The proxy's metrics and queues tell functions apart by this name.
    application_name: process.env.AWS_LAMBDA_FUNCTION_NAME,
  })
  // Without a listener, a connection that is lost between two invocations would end the process.
  opened.on('error', () => { if (client === opened) client = null })
  opened.on('end', () => { if (client === opened) client = null })
  await opened.connect()
  client = opened
  return opened
}

const begin = async () => {
  const kept = client
  try {
    await (await connect()).query('begin')
  } catch (error) {
    // No SQLSTATE: the connection was lost while the instance was suspended, which shows only now. Nothing has run yet,
    // so this is safe to repeat.
    if (!kept || isRefusal(error)) throw error
    client = null
    await (await connect()).query('begin')
  }
  return client
}

const transaction = async script => {
  const connection = await begin()
  try {
    let rows = 0
    for (const statement of script) rows += (await connection.query(statement)).rowCount ?? 0
    await connection.query('commit')
    return rows
  } catch (error) {
    await connection.query('rollback').catch(() => { client = null })
    throw error
  }
}

const isRefusal = error => error instanceof pg.DatabaseError && error.severity !== 'FATAL'

// Milliseconds to wait before it is worth trying again, if the proxy refused the transaction and said so.
const retryAfter = error => {
  const found = /\bretry_after_ms=(\d+)/.exec(error.detail ?? '')
  return found ? Number(found[1]) : null
}

export const handler = async (event, context) => {
  try {
    return { rows: await transaction(event.script), attempts: 1 }
  } catch (error) {
    // A refusal with retry_after_ms comes before anything has run. Waiting as long as it says, once, gets most callers
    // through a burst; retrying at once, or many times, is what makes a burst an outage.
    const pause = retryAfter(error)
    if (event.retry === false || pause === null) throw error
    if (pause >= context.getRemainingTimeInMillis()) throw error
    await sleep(pause)
  }
  return { rows: await transaction(event.script), attempts: 2 }
}
