/** Lanes that may be able to send, each once, in the order in which they asked. */
import type { Lane } from './lane.ts'
import { Queue } from './queue.ts'

export class Turns {
  readonly #lanes = new Queue<Lane>()

  join(lane: Lane): void {
    if (lane.inCircle || lane.ready.length === 0 || lane.active >= lane.mostActive) return
    lane.inCircle = true
    this.#lanes.push(lane)
  }

  next(): Lane | undefined {
    const lane = this.#lanes.shift()
    if (lane !== undefined) lane.inCircle = false
    return lane
  }
}
