// Retries for node-postgres behind pgcorral: keep one Caller per function instance, and hand it transactions.
'use strict'

const { Client } = require('pg')

// Refused before anything has taken effect, by pgcorral or by PostgreSQL itself.
const REFUSED = new Set(['53300', '53400', '57P03', '08001'])
// Pauses without advice: at most this long at first, twice as long each time, and never longer than the last.
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5000

class Caller {
  constructor(config) {
    this.config = config
    this.client = null
  }

  // Runs work(client) in a transaction. Gives up after deadlineMs, with the last error. A transaction that was lost
  // together with its server is tried again only if it is idempotent: it may have been committed.
  async run(work, { deadlineMs = 30000, idempotent = false, onRetry = () => {} } = {}) {
    const giveUp = Date.now() + deadlineMs
    for (let attempt = 0; ; attempt++) {
      const connecting = this.client === null
      try {
        if (connecting) await this.connect()
        return await this.transaction(work)
      } catch (error) {
        const pause = pauseAfter(error, attempt, idempotent || (connecting && this.client === null))
        // Not for an error of the transaction: only a connection that is gone is opened again.
        if (pause === null || Date.now() + pause >= giveUp) throw error
        onRetry(error, pause)
        await new Promise((resolve) => setTimeout(resolve, pause))
      }
    }
  }

  async close() {
    await this.client?.end()
  }

  async connect() {
    const client = new Client(this.config)
    const gone = () => {
      if (this.client === client) this.client = null
    }
    // Without a listener, a connection that ends while it is idle ends the process.
    client.on('error', gone)
    client.on('end', gone)
    await client.connect()
    this.client = client
  }

  async transaction(work) {
    const client = this.client
    await client.query('begin')
    try {
      const result = await work(client)
      await client.query('commit')
      return result
    } catch (error) {
      if (this.client === client) await client.query('rollback').catch(() => {})
      throw error
    }
  }
}

// Milliseconds until the next attempt; null if there must not be one.
function pauseAfter(error, attempt, mayRunTwice) {
  const told = /\bretry_after_ms=(\d+)/.exec(error.detail ?? '')
  if (told) return Number(told[1])
  // Only what a server has said has a severity; everything else that carries a system error, or these words, is a
  // connection that broke.
  const answered = error.severity !== undefined
  const broke = error.syscall !== undefined || /^Connection terminated|not queryable$/.test(error.message)
  const lost = answered ? error.code === '08006' : broke
  if (!(answered && REFUSED.has(error.code)) && !(lost && mayRunTwice)) return null
  return Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt)
}

module.exports = { Caller }
