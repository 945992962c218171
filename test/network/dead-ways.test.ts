/** C2 and C11 of the fault list: addresses that swallow every packet, alone and beside live ones. */
import path from 'node:path'
import { expect, it } from 'vitest'
import { runInNamespace, whyNoNamespace } from './namespace.ts'

interface Sent {
  outcome: string
  error: string | null
  ms: number
}

/** A neighbour with a hardware address that nobody has: no refusal, no timeout of ARP, silence. */
const silentNeighbour = `
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip addr add 93.184.0.1/24 dev v0
ip -6 addr add 2600:1::1/64 dev v0 nodad
ip neigh add 93.184.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent
ip -6 neigh add 2600:1::2 lladdr 02:00:00:00:00:02 dev v0 nud permanent
`

const missing = whyNoNamespace()
if (missing !== null) console.log(`skipped: addresses that swallow packets, because ${missing}`)

it.skipIf(missing !== null)(
  'a swallowed SYN ends at 5 s, and a live address is found beside it',
  async () => {
    const program = path.join(import.meta.dirname, 'dead-ways.mjs')
    const sent = JSON.parse(await runInNamespace(silentNeighbour, [program])) as {
      [name in 'swallowed' | 'deadSix' | 'deadFour' | 'neither']: Sent
    }
    console.log(`dead ways: ${JSON.stringify(sent)}`)
    for (const { outcome, error, ms } of [sent.swallowed, sent.neither]) {
      expect([outcome, error]).toEqual(['timed-out', 'timed out (connect)'])
      expect(Math.abs(ms - 5_000)).toBeLessThan(500)
    }
    for (const { outcome, ms } of [sent.deadSix, sent.deadFour]) {
      expect(outcome).toBe('accepted')
      // 250 ms for the first address; the rest is this machine.
      expect(ms).toBeGreaterThanOrEqual(240)
      expect(ms).toBeLessThan(400)
    }
  },
)
