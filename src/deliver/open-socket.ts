/**
 * Opens the socket itself: TCP, and TLS on it. It is given addresses, never a name to resolve; the
 * name goes into SNI and is what the certificate has to be for.
 */
import type { LookupAddress } from 'node:dns'
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { TlsIdentity } from './tls-identity.ts'

export interface SocketTarget {
  /** Without brackets. */
  readonly hostname: string
  readonly port: number
  /** Of the name, checked; tried in this order. */
  readonly addresses: readonly LookupAddress[]
  readonly tls: TlsIdentity | null
  /** A tunnel to speak TLS in, instead of a connection of its own. */
  readonly through?: Socket | undefined
}

/** Trying them one after another takes 250 ms each; a name with more has more than it needs. */
const maxTriedAddresses = 16

/** Time on one address before the next is tried beside it. */
const attemptMs = 250

export function openSocket(target: SocketTarget): Socket {
  const socket = target.tls === null ? openTcp(target) : openTls(target, target.tls)
  return socket.setNoDelay(true).setKeepAlive(true, 60_000)
}

/** The event by which it is ready to be written to. */
export function readyEvent({ tls }: Pick<SocketTarget, 'tls'>): 'secureConnect' | 'connect' {
  return tls === null ? 'connect' : 'secureConnect'
}

function openTcp(target: SocketTarget): Socket {
  return connectTcp(place(target))
}

function openTls(target: SocketTarget, identity: TlsIdentity): TLSSocket {
  const { hostname, port, through } = target
  // An address has no place in SNI; the certificate is checked against it all the same.
  const servername = isIP(hostname) === 0 ? hostname : ''
  const sessionOf = `${hostname}:${port}`
  const socket = connectTls({
    ...(through === undefined ? place(target) : { socket: through, host: hostname }),
    ...identity.options,
    servername,
    session: identity.sessions.get(sessionOf),
    ALPNProtocols: ['http/1.1'],
  })
  socket.on('session', (session) => identity.sessions.set(sessionOf, session))
  return socket
}

function place({ hostname, port, addresses }: SocketTarget) {
  return {
    host: hostname,
    port,
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
