/**
 * Opens connections, and only to allowed addresses. The guard is inside the connector, on the very
 * addresses that are connected to: a check before resolving the name again would be a race that
 * whoever owns the name can win. Host and SNI keep the name.
 */
import type { LookupAddress } from 'node:dns'
import { isIP, type Socket } from 'node:net'
import type { AddressRule } from '../security/address.ts'
import type { LookupAll, SetTimer } from './attempt-request.ts'
import {
  BlockedAddressError,
  ConnectTimeoutError,
  closedEarly,
  type OpeningPhase,
  ProxyError,
  UnresolvableError,
} from './classify.ts'
import { openSocket, type Received } from './open-socket.ts'
import type { Target } from './prepare.ts'
import { type EgressProxy, openTunnel } from './proxy.ts'

export interface ConnectTools {
  readonly addresses: AddressRule
  readonly lookup: LookupAll
  readonly proxy: EgressProxy | null
  /** DNS, connect and TLS together. */
  readonly connectTimeoutMs: number
  readonly setTimer: SetTimer
}

/** A connection that is being opened. */
export interface Opening {
  /** What it waits for. */
  readonly phase: OpeningPhase
  /** After it the callback is still called, with an error. */
  giveUp(error: Error): void
}

/** Called once; the socket is null where there is an error. */
export type Connected = (error: Error | null, socket: Socket | null) => void

/** @param received gets what the receiver sends; the bytes are valid during the call only */
export type Connect = (target: Target, received: Received, connected: Connected) => Opening

type Vetted = readonly LookupAddress[]

/** A proxy's word that it could not reach this address; another one of the name may do. */
const unreachedByProxy = new Set(['PROXY_502', 'PROXY_503', 'PROXY_504'])

export function createConnect(tools: ConnectTools): Connect {
  return (target, received, connected) => {
    const path = new Path(tools, target, received, connected)
    path.begin()
    return path
  }
}

/** Name → vetted addresses → perhaps a tunnel → socket, within one time limit. */
class Path implements Opening {
  phase: OpeningPhase = 'connect'
  readonly #tools: ConnectTools
  readonly #target: Target
  readonly #received: Received
  readonly #connected: Connected
  #socket: Socket | null = null
  #ended = false
  #cancelTimer = (): void => {}

  constructor(tools: ConnectTools, target: Target, received: Received, connected: Connected) {
    this.#tools = tools
    this.#target = target
    this.#received = received
    this.#connected = connected
  }

  begin(): void {
    const { setTimer, connectTimeoutMs, proxy } = this.#tools
    const { hostname } = this.#target
    this.#cancelTimer = setTimer(
      () => this.giveUp(new ConnectTimeoutError(connectTimeoutMs, this.phase)),
      connectTimeoutMs,
    )
    const family = isIP(hostname)
    if (family !== 0) this.#resolved(null, [{ address: hostname, family }])
    // The proxy will resolve it, and has to judge what it finds.
    else if (proxy?.connectTo === 'name') this.#tunnel(proxy, [hostname])
    else this.#resolve()
  }

  #resolve(): void {
    const answered = (error: NodeJS.ErrnoException | null, found: Vetted | undefined): void => {
      // A lookup handed in by the user may call twice; the second time is too late.
      if (this.#ended || this.phase !== 'dns') return
      this.phase = 'connect'
      this.#resolved(error, found ?? [])
    }
    this.phase = 'dns'
    try {
      this.#tools.lookup(this.#target.hostname, answered)
    } catch (error) {
      answered(error as NodeJS.ErrnoException, [])
    }
  }

  giveUp(error: Error): void {
    if (this.#ended) return
    this.#socket?.on('error', () => {}).destroy()
    this.#fail(error)
  }

  #resolved(error: NodeJS.ErrnoException | null, found: Vetted): void {
    const { addresses, proxy } = this.#tools
    if (error !== null || found.length === 0) {
      this.#fail(new UnresolvableError(error))
      return
    }
    // One bad address refuses all: which of them is connected to is the network's choice.
    const bad = found.find(({ address }) => !addresses.allows(address))
    // What is open by `allowedNetworks` is inside; an egress proxy leads out.
    const isInside = (): boolean => found.every(({ address }) => addresses.opens(address))
    if (bad !== undefined) this.#fail(new BlockedAddressError(bad.address))
    else if (proxy === null || isInside()) this.#direct(found)
    else
      this.#tunnel(
        proxy,
        found.map(({ address }) => address),
      )
  }

  #direct(addresses: Vetted): void {
    const socket = this.#open(addresses, undefined)
    // Before what TLS does then: its first bytes must not go to an address that was not asked for.
    socket.prependListener('connect', () => {
      if (this.#isWhereItShould(socket) && !this.#target.secure) this.#succeed(socket)
    })
  }

  /** Belt and braces: should a runtime resolve again by itself, nothing has been sent yet. */
  #isWhereItShould({ remoteAddress }: Socket): boolean {
    if (remoteAddress !== undefined && this.#tools.addresses.allows(remoteAddress)) return true
    this.giveUp(
      remoteAddress === undefined ? closedEarly() : new BlockedAddressError(remoteAddress),
    )
    return false
  }

  #tunnel(proxy: EgressProxy, [host = '', ...others]: readonly string[]): void {
    const target = `${isIP(host) === 6 ? `[${host}]` : host}:${this.#target.port}`
    this.phase = 'proxy'
    const socket = openTunnel(proxy, target, this.#tools.lookup, (error, socket) => {
      if (this.#ended) return
      const next = error instanceof ProxyError && unreachedByProxy.has(error.code)
      if (next && others.length > 0) this.#tunnel(proxy, others)
      else if (error !== null) this.#fail(error)
      else if (!this.#target.secure) this.#succeed(socket.on('data', this.#received).resume())
      else this.#open([], socket)
    })
    this.#socket = socket
    // From here on it may be the receiver that keeps the proxy waiting.
    socket.once(proxy.secure ? 'secureConnect' : 'connect', () => {
      this.phase = 'connect'
    })
  }

  #open(addresses: Vetted, through: Socket | undefined): Socket {
    const socket = openSocket({
      target: this.#target,
      addresses,
      through,
      received: this.#received,
    })
    this.#socket = socket
    // What comes after it has ended, one way or the other, changes nothing.
    socket.on('error', (error) => this.#fail(error))
    if (this.#target.secure) {
      socket.on('secureConnect', () => this.#succeed(socket))
      socket.on('close', () => this.#fail(closedEarly()))
    }
    return socket
  }

  #succeed(socket: Socket): void {
    if (this.#ended) return
    this.#end()
    this.#connected(null, socket)
  }

  #fail(error: Error): void {
    if (this.#ended) return
    this.#end()
    this.#connected(error, null)
  }

  #end(): void {
    this.#ended = true
    this.#cancelTimer()
  }
}
