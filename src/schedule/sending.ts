/**
 * Sends what lanes have ready, in turns, as long as slots are free; and gives back to the store what
 * cannot be sent. It owns what is in memory, and whether anything is sent at all.
 */
import type { Clock } from '../model/clock.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import type { Claim } from '../storage/claims.ts'
import type { ReleaseRecord } from '../storage/commit-records.ts'
import type { Agenda } from './agenda.ts'
import type { Lane } from './lane.ts'
import type { Memory } from './memory.ts'
import type { Precedence } from './precedence.ts'
import type { Reader } from './reader.ts'
import { type Slots, slowAfterMs } from './slots.ts'

export interface SendingTools {
  readonly clock: Clock
  readonly memory: Memory
  readonly slots: Slots
  readonly precedence: Precedence
  readonly reader: Reader
  readonly agenda: Agenda
  readonly endpoint: (endpointKey: string) => EndpointRecord | undefined
  /** Starts an attempt. Must not throw. */
  readonly run: (claim: Claim, endpoint: EndpointRecord) => void
  readonly release: (record: ReleaseRecord, endpointKey: string) => void
  /** It was cancelled while it was on its way to memory. */
  readonly isCancelled: (deliveryId: string) => boolean
  /** True while outcomes pile up unrecorded: nothing new starts. */
  readonly congested: () => boolean
  /** A delivery of the lane has expired unsent. */
  readonly expired: (lane: Lane) => void
}

export class Sending {
  readonly #tools: SendingTools
  /** Lanes with a rate limit that may have something to send. */
  readonly #paced = new Set<Lane>()
  #cancelLook: (() => void) | null = null
  #pumping = false
  #stopped = true

  constructor(tools: SendingTools) {
    this.#tools = tools
  }

  get isStopped(): boolean {
    return this.#stopped
  }

  /** Deliveries in memory whose send time has not come. */
  waitingForTime(): number {
    const nowMs = this.#tools.clock.nowMs()
    let waiting = 0
    for (const lane of this.#paced) {
      if (lane.ready.length === 0) this.#paced.delete(lane)
      else if (lane.pace !== null && !lane.pace.isTime(nowMs)) waiting += lane.ready.length
    }
    return waiting
  }

  start(): void {
    this.#stopped = false
  }

  stop(): void {
    this.#stopped = true
    this.#cancelLook?.()
  }

  /** It is owned: it is sent when the lane's turn comes, or goes back at once. */
  put(lane: Lane, claim: Claim): void {
    const { clock, memory, precedence, isCancelled } = this.#tools
    if (isCancelled(claim.deliveryId) || this.#stopped || lane.isBlocked(clock.nowMs())) {
      this.#giveBack(claim)
      return
    }
    lane.ready.push(claim)
    memory.add(claim)
    if (lane.pace !== null) this.#paced.add(lane)
    precedence.join(lane)
    this.pump()
  }

  /** Begins all that may begin now. */
  pump(): void {
    if (this.#pumping || this.#stopped) return
    this.#pumping = true
    const { clock, slots, precedence, reader, agenda } = this.#tools
    const nowMs = clock.nowMs()
    while (!this.#tools.congested()) {
      if (slots.isFull(nowMs)) {
        this.#lookLater()
        break
      }
      const lane = precedence.next()
      if (lane === undefined) break
      if (lane.canSend(nowMs)) this.#startOne(lane, nowMs)
      if (lane.canSend(nowMs)) precedence.join(lane)
      else if (lane.pace !== null) agenda.pace(lane)
    }
    this.#pumping = false
    // Lanes may have room for more.
    reader.ask()
  }

  /** Everything is taken: by lanes that hang, perhaps, which only time tells. */
  #lookLater(): void {
    const { clock, precedence } = this.#tools
    if (this.#cancelLook !== null || !precedence.isAnyWaiting) return
    this.#cancelLook = clock.setTimer(() => {
      this.#cancelLook = null
      this.pump()
    }, slowAfterMs / 2)
  }

  #startOne(lane: Lane, nowMs: number): void {
    const claim = lane.begin()
    if (claim === undefined) return
    this.#tools.memory.remove(claim)
    const endpoint = this.#tools.endpoint(lane.endpointKey)
    if (endpoint === undefined || endpoint.status === 'disabled') {
      this.#giveBack(claim)
      return
    }
    if (claim.expiresAtMs !== undefined && claim.expiresAtMs <= nowMs) {
      this.#expire(lane, claim)
      return
    }
    this.#tools.slots.began(lane, nowMs)
    this.#tools.run(claim, endpoint)
  }

  /** Gives all of the lane back that has not begun. */
  empty(lane: Lane): void {
    for (const claim of lane.ready.takeAll()) {
      this.#tools.memory.remove(claim)
      this.#giveBack(claim)
    }
  }

  /** Gives one back that has not begun. @returns false when it is not there */
  giveBack(lane: Lane, deliveryId: string): boolean {
    const claim = lane.ready.remove((one) => one.deliveryId === deliveryId)
    if (claim === undefined) return false
    this.#tools.memory.remove(claim)
    this.#giveBack(claim)
    return true
  }

  /** The same of many, in one pass over the lane. @returns those that were there */
  giveBackSome(lane: Lane, deliveryIds: ReadonlySet<string>): string[] {
    const back: Claim[] = []
    for (const claim of lane.ready.takeAll()) {
      if (deliveryIds.has(claim.deliveryId)) back.push(claim)
      else lane.ready.push(claim)
    }
    for (const claim of back) {
      this.#tools.memory.remove(claim)
      this.#giveBack(claim)
    }
    return back.map(({ deliveryId }) => deliveryId)
  }

  /** Back to the store as not attempted. */
  #giveBack({ deliveryId, token, endpointKey }: Claim): void {
    this.#tools.release({ deliveryId, token, dueAtMs: null }, endpointKey)
  }

  #expire(lane: Lane, { deliveryId, token }: Claim): void {
    const { release, expired, clock, agenda } = this.#tools
    const record = { deliveryId, token, dueAtMs: clock.nowMs(), cancelled: 'expired' }
    release(record, lane.endpointKey)
    agenda.want(lane)
    expired(lane)
  }
}
