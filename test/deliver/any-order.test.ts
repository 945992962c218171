/**
 * Connections and exchanges under every order of events: sockets that open, fail, answer, break and
 * close at any moment, attempts that expire, are aborted and follow one another. Whatever happens,
 * each attempt reports once, gets its own reply or none, and nothing is left at the end.
 */
import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { AttemptReport, AttemptRequest } from '../../src/deliver/attempt-request.ts'
import type { Connect } from '../../src/deliver/connect.ts'
import { Connections } from '../../src/deliver/connections.ts'
import { Deadlines } from '../../src/deliver/deadlines.ts'
import { Exchange, type ExchangeTools } from '../../src/deliver/exchange.ts'
import type { PreparedEndpoint } from '../../src/deliver/prepare.ts'
import { RequestHeads } from '../../src/deliver/request-head.ts'
import { TlsIdentities } from '../../src/deliver/tls-identity.ts'
import { SecurityManager } from '../../src/security/security-manager.ts'
import { attemptRequest, endpointRecord } from './receivers.ts'

const steps = 400
const identity = new TlsIdentities(undefined).of(null)
const endpoint = endpointRecord('http://hooks.example.net/')
const heads = new RequestHeads(new SecurityManager())
const largeBody = Buffer.alloc(20_000)
const smallBody = Buffer.from('{}')

/** A socket as far as a connection knows one. Speaks only as long as a real one would. */
class FakeSocket extends EventEmitter {
  readonly #world: World
  readonly #received: (bytes: Buffer) => void
  /** Id of the request that has not been answered to its end. */
  asked: string | null = null
  /** What is still to come of its reply. */
  coming: Buffer[] = []
  closesAfterReply = false
  writableLength = 0
  /** Said something that nobody had asked for. */
  spoke = false
  destroyed = false
  #ended = false
  #closed = false

  constructor(world: World, received: (bytes: Buffer) => void) {
    super()
    this.#world = world
    this.#received = received
  }

  get isUsable(): boolean {
    return !this.destroyed && !this.#ended && !this.#closed
  }

  write(data: string | Uint8Array): void {
    if (this.destroyed) this.#world.wrong.push('written to after it was given up')
    if (this.#ended) this.#world.wrong.push('written to after it had ended')
    if (typeof data !== 'string') {
      this.writableLength += data.length
      return
    }
    if (this.asked !== null) this.#world.wrong.push('asked again before its answer')
    if (this.spoke) this.#world.wrong.push('asked after it had spoken unasked')
    if (this.writableLength > 0) this.#world.wrong.push('asked behind half a request')
    this.asked = /webhook-id: (\S+)/.exec(data)?.[1] ?? ''
  }

  receive(bytes: Buffer): void {
    if (this.isUsable) this.#received(bytes)
  }

  end(): void {
    if (!this.isUsable) return
    this.#ended = true
    this.emit('end')
    this.#world.later.push(() => this.destroy())
  }

  fail(code: string): void {
    if (this.destroyed) return
    this.destroyed = true
    this.emit('error', Object.assign(new Error(code), { code }))
    this.#world.later.push(() => this.#close())
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#world.later.push(() => this.#close())
  }

  vanish(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#close()
  }

  #close(): void {
    this.#closed = true
    this.emit('close')
  }

  cork(): void {}
  uncork(): void {}
  ref(): void {}
  unref(): void {}
}

interface Timer {
  readonly atMs: number
  readonly fire: () => void
}

class World {
  readonly later: (() => void)[] = []
  readonly openings: { succeed(): void; fail(): void }[] = []
  readonly sockets = new Set<FakeSocket>()
  readonly timers = new Set<Timer>()
  readonly reports = new Map<string, AttemptReport[]>()
  readonly active = new Set<Exchange>()
  readonly kinds = new Set<string>()
  /** What must never be. */
  readonly wrong: string[] = []
  readonly connections: Connections
  readonly maxConnections: number
  /** From few attempts, which find idle connections, to many, which wait for one. */
  readonly #pauses: number
  readonly #random: () => number
  readonly #tools: ExchangeTools
  readonly #prepared: readonly PreparedEndpoint[]
  nowMs = 0
  followUps = true

  constructor(seed: number) {
    this.#random = generator(seed)
    this.maxConnections = 1 + this.below(5)
    this.#pauses = 1 + this.below(4)
    this.#prepared = ['a', 'a', 'b', 'c'].map((hostname) => ({
      target: { hostname, port: 80, secure: false, identity, key: hostname },
      head: 'POST / HTTP/1.1\r\n',
      signing: null,
    }))
    const monotonicMs = () => this.nowMs
    const setTimer = (fire: () => void, delayMs: number) => {
      const timer = { atMs: this.nowMs + delayMs, fire }
      this.timers.add(timer)
      return () => this.timers.delete(timer)
    }
    this.connections = new Connections({
      connect: this.#connect,
      maxConnections: this.maxConnections,
      idleMs: 200,
      monotonicMs,
      setTimer,
    })
    this.#tools = {
      connections: this.connections,
      deadlines: new Deadlines(monotonicMs, setTimer),
      redirects: 'success',
      heads,
      nowMs: monotonicMs,
      monotonicMs,
      ended: (exchange, report) => {
        this.active.delete(exchange)
        exchange.done(report)
      },
    }
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  pick<T>(from: Iterable<T>): T | undefined {
    const all = [...from]
    return all[this.below(all.length)]
  }

  attempt(): void {
    this.send(this.below(4), {
      // One whose head cannot be built now and then.
      eventType: this.below(20) === 0 ? 'no type' : 'a.b',
      body: this.below(5) === 0 ? largeBody : smallBody,
      timeoutMs: this.below(2) === 0 ? 50 : 100,
    })
  }

  send(host: number, changes: Partial<AttemptRequest>): void {
    const id = `evt_${this.reports.size}`
    const reports: AttemptReport[] = []
    this.reports.set(id, reports)
    const prepared = this.#prepared[host]
    if (prepared === undefined) throw new Error('no such host')
    const request = attemptRequest(endpoint, { eventId: id, enableSecurity: false, ...changes })
    const exchange = new Exchange(request, prepared, this.#tools, (report) => {
      reports.push(report)
      this.kinds.add(report.outcome.kind)
      const body = Buffer.from(report.responseBody ?? []).toString()
      if (!`reply to ${id}`.startsWith(body)) this.wrong.push(`${id} got ${body}`)
      if (this.followUps && this.below(2 + this.#pauses) === 0) this.attempt()
    })
    this.active.add(exchange)
    this.connections.take(exchange)
  }

  readonly #connect: Connect = (_, received, connected) => {
    let isOver = false
    const over = (report: () => void) => () => {
      if (isOver) return
      isOver = true
      report()
    }
    const error = Object.assign(new Error('no way'), { code: 'ECONNREFUSED' })
    const fail = over(() => connected(error, null))
    const succeed = over(() => {
      const socket = new FakeSocket(this, received)
      this.sockets.add(socket)
      connected(null, socket as unknown as Socket)
    })
    // Blocked by its address: known before `connect` has returned.
    if (this.below(8) === 0) fail()
    else this.openings.push({ succeed, fail })
    return { phase: 'connect', giveUp: (why) => over(() => connected(why, null))() }
  }

  /** One thing that could happen next. */
  step(): void {
    const [socket, opening] = [this.pick(this.sockets), this.pick(this.openings)]
    switch (this.below(9)) {
      case 0:
      case 1:
        if (this.below(this.#pauses) === 0) this.attempt()
        break
      case 2:
        if (this.below(5) === 0) opening?.fail()
        else opening?.succeed()
        break
      case 3:
        this.later.splice(this.below(this.later.length), 1)[0]?.()
        break
      case 4:
        this.advance(this.below(40))
        break
      case 5:
        if (this.below(6) === 0) for (const one of [...this.active]) one.abort('ABORTED')
        break
      default:
        if (socket !== undefined) this.speak(socket)
    }
    expect(this.connections.open).toBeLessThanOrEqual(this.maxConnections)
  }

  speak(socket: FakeSocket): void {
    if (!socket.isUsable) {
      this.sockets.delete(socket)
      return
    }
    if (this.below(6) === 0) {
      this.break(socket)
      return
    }
    socket.writableLength = this.below(3) === 0 ? socket.writableLength : 0
    if (socket.asked === null) {
      if (this.below(4) > 0) return
      socket.receive(Buffer.from(reply('nobody', 0)))
      socket.spoke = true
      return
    }
    if (socket.coming.length === 0) this.#begin(socket, socket.asked)
    const piece = socket.coming.shift()
    // Told before the last piece is read: what reads it may send the next request at once.
    if (socket.coming.length === 0) socket.asked = null
    if (piece !== undefined) socket.receive(piece)
    if (socket.coming.length === 0 && socket.closesAfterReply) socket.end()
  }

  #begin(socket: FakeSocket, id: string): void {
    const shape = this.below(7)
    socket.closesAfterReply = shape === 3 || this.below(6) === 0
    const bytes = Buffer.from(shape === 6 ? 'SSH-2.0\r\n' : reply(`reply to ${id}`, shape))
    let cut = this.below(3) === 0 ? 1 + this.below(bytes.length - 1) : bytes.length
    // Where what is too much comes apart from the reply nobody can know of it before the next request.
    if (shape === 2 && cut === reply(`reply to ${id}`, 0).length) cut += 1
    socket.coming = [bytes.subarray(0, cut), bytes.subarray(cut)].filter(({ length }) => length > 0)
  }

  break(socket: FakeSocket): void {
    const how = this.below(3)
    if (how === 0) socket.end()
    else if (how === 1) socket.fail('ECONNRESET')
    else socket.vanish()
    // Between what breaks it and its close somebody could take it.
    if (this.below(2) === 0) this.attempt()
  }

  advance(ms: number): void {
    this.nowMs += ms
    for (const timer of [...this.timers].sort((a, b) => a.atMs - b.atMs)) {
      if (timer.atMs <= this.nowMs && this.timers.delete(timer)) timer.fire()
    }
  }

  /** Nothing new begins, and what has begun gets all the time it may take. */
  async settle(): Promise<void> {
    this.followUps = false
    for (let i = 0; i < 2 * steps && this.active.size > 0; i += 1) {
      this.advance(100)
      for (const close of this.later.splice(0)) close()
      await turn()
    }
    const closed = this.connections.close()
    for (const close of this.later.splice(0)) close()
    await closed
  }
}

/** @param shape 0 to 5: by length, in chunks, with more behind it, until close, last, HTTP/1.0 */
function reply(body: string, shape: number): string {
  const length = `content-length: ${body.length}\r\n`
  const byLength = `HTTP/1.1 200 OK\r\n${length}\r\n${body}`
  if (shape === 1) {
    const chunk = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
    return `HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n${chunk}`
  }
  if (shape === 2) return `${byLength}HTTP/1.1 200 OK\r\n`
  if (shape === 3) return `HTTP/1.1 404 No\r\n\r\n${body}`
  if (shape === 4) return `HTTP/1.1 200 OK\r\nconnection: close\r\n${length}\r\n${body}`
  if (shape === 5) return `HTTP/1.0 200 OK\r\n${length}\r\n${body}`
  return byLength
}

/** Numbers from 0 to 1 (mulberry32): the same for the same seed. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

it('every attempt reports once and gets its own reply, in any order of events', async () => {
  let attempts = 0
  const kinds = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.integer(), async (seed) => {
      const world = new World(seed)
      for (let i = 0; i < steps; i += 1) {
        world.step()
        // Promises and immediates have their say in between, too.
        if (world.below(4) === 0) await turn()
      }
      await world.settle()
      expect(world.wrong).toEqual([])
      for (const [id, reports] of world.reports) expect(reports, id).toHaveLength(1)
      expect(world.connections.open).toBe(0)
      for (const socket of world.sockets) expect(socket.isUsable).toBe(false)
      // Left are those of deadlines, which go when they fire, and none that would fire for ever.
      world.advance(1_000)
      expect(world.timers.size).toBe(0)
      attempts += world.reports.size
      for (const kind of world.kinds) kinds.add(kind)
    }),
    { numRuns: 150 },
  )
  expect(attempts).toBeGreaterThan(3_000)
  expect([...kinds].sort()).toEqual([
    ...['accepted', 'faulted', 'refused', 'timed-out', 'unreachable'],
  ])
})

it('an idle connection that breaks is not used, also before its close is told', async () => {
  const world = new World(1)
  world.followUps = false
  world.send(0, {})
  world.openings.shift()?.succeed()
  const [socket] = world.sockets
  socket?.receive(Buffer.from(reply('', 0)))
  if (socket !== undefined) socket.asked = null
  await turn()
  await turn()
  expect(world.reports.get('evt_0')).toHaveLength(1)
  socket?.fail('ECONNRESET')
  world.send(0, {})
  expect(world.openings).toHaveLength(1)
  await world.settle()
  expect(world.wrong).toEqual([])
})
