// What a stretch of work cost this process and the contender's server.

import { monotonicMs } from '../machine/clock.mjs'
import { treeCpuMs } from '../machine/processes.mjs'

export class Usage {
  /** @param roundTrips counts those to the contender's server; only ours says */
  constructor(serverPid, roundTrips) {
    this.serverPid = serverPid
    this.roundTrips = roundTrips
    this.start()
  }

  start() {
    this.startMs = monotonicMs()
    // All threads of this process: a storage worker thread is counted.
    this.cpu = process.cpuUsage()
    this.roundTripsBefore = this.roundTrips?.()
    this.serverCpuMs = this.serverPid ? treeCpuMs(this.serverPid) : 0
  }

  /** @returns deliveries per second, and CPU in µs per delivery */
  per(deliveries) {
    const elapsedMs = monotonicMs() - this.startMs
    const { user, system } = process.cpuUsage(this.cpu)
    const serverMs = this.serverPid ? treeCpuMs(this.serverPid) - this.serverCpuMs : 0
    return {
      perSecond: (deliveries * 1000) / elapsedMs,
      processCpuUs: (user + system) / deliveries,
      serverCpuUs: (serverMs * 1000) / deliveries,
      ...(this.roundTrips && {
        roundTrips: (this.roundTrips() - this.roundTripsBefore) / deliveries,
      }),
    }
  }
}
