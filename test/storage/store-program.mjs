// A process of its own with the store open, for tests that need a second one or one to kill:
// node store-program.mjs FILE [--commit ROUND]. Prints the id of each event once it is committed,
// with a full stop, so that a line cut off by a kill is recognised.
import { randomBytes } from 'node:crypto'
import { createKeyMaker, deliveryId } from '../../dist/model/ids.js'
import { sqlite } from '../../dist/storage/sqlite/sqlite.js'

const [file, mode, round = ''] = process.argv.slice(2)
const host = { nowMs: Date.now, log() {}, onFatal() {} }
const store = await sqlite({ path: file }).open(host)
const newKey = createKeyMaker(Date.now, randomBytes)
let committed = 0
let owned = []

function event() {
  const key = newKey()
  const id = `e${round}${committed++}`
  const delivery = deliveryId(key, 'endpoint', 1)
  return {
    event: {
      key,
      tenantId: '',
      id,
      type: 'message.sent',
      acceptedAtMs: Date.now(),
      body: Buffer.from(JSON.stringify({ id, data: 'x'.repeat(2_000) })),
      contentHash: Buffer.from(id),
      matched: 1,
    },
    deliveries: [{ id: delivery, endpointKey: 'endpoint', dueAtMs: Date.now(), owned: true }],
    fanOutTo: null,
  }
}

function settlement({ deliveries: [{ id, endpointKey }] }) {
  const nowMs = Date.now()
  return {
    deliveryId: id,
    endpointKey,
    tenantId: '',
    eventType: 'message.sent',
    token: 1,
    attempt: {
      number: 1,
      startedAtMs: nowMs,
      latencyMs: 1,
      outcome: 'accepted',
      httpStatus: 200,
      error: null,
      responseBody: null,
      endpointVersion: 1,
    },
    settlement: { state: 'delivered', reason: 'status_200', effect: null },
    settledAtMs: nowMs,
  }
}

async function commit(size) {
  const accepts = Array.from({ length: size }, event)
  const settlements = owned.map(settlement)
  await store.commit({ accepts, settlements, releases: [] })
  owned = accepts
  for (const accept of accepts) console.log(`${accept.event.id}.`)
}

await commit(1)
while (mode === '--commit') await commit(20)
process.stdin.resume()
