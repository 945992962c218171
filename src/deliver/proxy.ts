/**
 * A tunnel through an HTTP proxy (CONNECT), for http and https targets alike: the proxy sees where
 * to, never what. Its own address is the operator's choice and is not guarded.
 */
import type { LookupAddress } from 'node:dns'
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { LookupAll } from './attempt-request.ts'
import { ProxyError } from './classify.ts'
import { handshake } from './tls-identity.ts'

export interface EgressProxy {
  readonly secure: boolean
  readonly host: string
  readonly port: number
  /** `Proxy-Authorization`; never part of an error. */
  readonly authorization: string | null
  /** What it is asked to connect to: the address that was checked, or the name. */
  readonly connectTo: 'address' | 'name'
}

const maxHeadBytes = 16_384

/**
 * @param target `address:port`, an IPv6 address in brackets
 * @param callback called once, with a socket that nothing was read from beyond the proxy's answer
 * @returns the socket, so that it can be given up
 */
export function openTunnel(
  proxy: EgressProxy,
  target: string,
  lookup: LookupAll,
  callback: (error: Error | null, socket: Socket) => void,
): Socket {
  const { secure, authorization } = proxy
  const socket = openProxy(proxy, lookup)
  socket.setNoDelay(true).setKeepAlive(true, 60_000)
  let head = ''
  const end = (error: Error | null): void => {
    socket.off('data', read).off('error', failed).off('close', closed)
    if (error === null) socket.pause()
    else socket.on('error', () => {}).destroy()
    callback(error, socket)
  }
  const failed = (error: NodeJS.ErrnoException): void => end(unreachableProxy(error))
  const closed = (): void => end(new ProxyError('PROXY_CLOSED'))
  const read = (chunk: Buffer): void => {
    head += chunk.toString('latin1')
    const verdict = judge(head)
    if (verdict !== 'incomplete') end(verdict)
  }
  socket.once(secure ? 'secureConnect' : 'connect', () => {
    const credentials = authorization === null ? '' : `Proxy-Authorization: ${authorization}\r\n`
    socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${credentials}\r\n`)
  })
  socket.on('data', read).on('error', failed).on('close', closed)
  return socket
}

function openProxy({ host, port, secure }: EgressProxy, lookup: LookupAll): Socket {
  const place = { host, port, autoSelectFamily: true, lookup: unguarded(lookup) }
  if (!secure) return connectTcp(place)
  const servername = isIP(host) === 0 ? host : ''
  return connectTls({ ...place, servername, ...handshake, ALPNProtocols: ['http/1.1'] })
}

function unguarded(lookup: LookupAll): LookupFunction {
  return (hostname, options, callback) => {
    let isAnswered = false
    const answered = (error: unknown, found: readonly LookupAddress[] | undefined): void => {
      // A lookup handed in by the user may call twice, or with an error only.
      if (isAnswered) return
      isAnswered = true
      const [first] = found ?? []
      if (error || found === undefined || first === undefined) {
        callback(Object.assign(new Error('the proxy has no address'), { code: 'ENOTFOUND' }), '', 0)
      } else if (options.all) callback(null, [...found])
      else callback(null, first.address, first.family)
    }
    try {
      lookup(hostname, answered)
    } catch (error) {
      answered(error, [])
    }
  }
}

/** An error of our own making (given up, out of time) stays what it is. */
function unreachableProxy(error: NodeJS.ErrnoException): Error {
  return error.code === undefined || error.code === 'CONNECT_TIMEOUT'
    ? error
    : new ProxyError(error.code)
}

/** @returns null for a tunnel that stands */
function judge(head: string): ProxyError | null | 'incomplete' {
  const end = head.indexOf('\r\n\r\n')
  if (end < 0) return head.length > maxHeadBytes ? new ProxyError('PROXY_PROTOCOL') : 'incomplete'
  const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |\r)/.exec(head)?.[1])
  if (!(status >= 200)) return new ProxyError('PROXY_PROTOCOL')
  if (status > 299) return new ProxyError(`PROXY_${status}`)
  // Nobody speaks before we do: what follows the head was not sent by the target.
  return head.length === end + 4 ? null : new ProxyError('PROXY_PROTOCOL')
}
