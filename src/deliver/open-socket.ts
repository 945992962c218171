/**
 * Opens the socket itself: TCP, and TLS on it. It is given addresses, never a name to resolve; the
 * name goes into SNI and is what the certificate has to be for.
 */
import type { LookupAddress } from 'node:dns'
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { Target } from './prepare.ts'

/** Takes bytes as they come. They are overwritten by the next ones: what is kept must be copied. */
export type Received = (bytes: Buffer) => void

export interface SocketOptions {
  readonly target: Target
  /** Of the name, checked; tried in this order. */
  readonly addresses: readonly LookupAddress[]
  /** A tunnel to speak TLS in, instead of a connection of its own. */
  readonly through?: Socket | undefined
  readonly received: Received
}

/**
 * Most replies are a few hundred bytes. One buffer for each connection, for as long as it lives: a
 * stream would allocate one of 64 KiB for every reply.
 */
const readBytes = 4_096

/** Trying them one after another takes 250 ms each; a name with more has more than it needs. */
const maxTriedAddresses = 16

/**
 * Of one connection. With TLS 1.2 a receiver may ask for another one, and for a client certificate
 * with it; each is our work, and how often it asks is the receiver's choice.
 */
const maxHandshakes = 3

/** What a session is resumed with; servers send one to four. They are no bytes that a reply counts. */
const maxTickets = 32

/** Time on one address before the next is tried beside it. */
const attemptMs = 250

export function openSocket(options: SocketOptions): Socket {
  const socket = options.target.secure ? openTls(options) : connectTcp(place(options))
  return socket.setNoDelay(true).setKeepAlive(true, 60_000)
}

function openTls(options: SocketOptions): TLSSocket {
  const { target, through, received } = options
  const { hostname, port, identity } = target
  // An address has no place in SNI; the certificate is checked against it all the same.
  const servername = isIP(hostname) === 0 ? hostname : ''
  const sessionOf = `${hostname}:${port}`
  const socket = connectTls({
    ...(through === undefined ? place(options) : { socket: through, host: hostname }),
    ...identity.options,
    servername,
    session: identity.sessions.get(sessionOf),
    ALPNProtocols: ['http/1.1'],
  })
  // Node reads into a buffer of ours only where the connection is its own.
  if (through !== undefined) socket.on('data', received)
  socket.on('session', (session) => identity.sessions.set(sessionOf, session))
  endAfter(maxHandshakes, 'secureConnect', socket)
  endAfter(maxTickets, 'session', socket)
  return socket
}

function endAfter(limit: number, event: 'secureConnect' | 'session', socket: TLSSocket): void {
  let times = 0
  socket.on(event, () => {
    times += 1
    if (times <= limit) return
    socket.destroy(
      Object.assign(new Error(`${event} more than ${limit} times`), { code: 'EPROTO' }),
    )
  })
}

function place({ target: { hostname, port }, addresses, received }: SocketOptions) {
  const buffer = Buffer.allocUnsafeSlow(readBytes)
  return {
    host: hostname,
    port,
    ...addressing(addresses),
    onread: {
      buffer,
      callback: (length: number) => {
        received(buffer.subarray(0, length))
        return true
      },
    },
  }
}

/** How Node gets from a name to an address: by no other way than these. */
export function addressing(addresses: readonly LookupAddress[]) {
  return {
    lookup: fixedLookup(addresses.slice(0, maxTriedAddresses)),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: attemptMs,
  }
}

/** Answers with what was checked: a name that were resolved again could answer differently. */
function fixedLookup(addresses: readonly LookupAddress[]): LookupFunction {
  return (_, options, callback) => {
    const [first] = addresses
    // Node asks back before `connect` has returned otherwise.
    queueMicrotask(() => {
      if (options.all) callback(null, [...addresses])
      else if (first !== undefined) callback(null, first.address, first.family)
    })
  }
}
