/**
 * Opens connections, and only to allowed addresses. The guard is inside the connector, on the very
 * addresses that are connected to: a check before resolving the name again would be a race that
 * whoever owns the name can win. Host and SNI keep the name.
 */
import { lookup as systemLookup } from 'node:dns'
import { isIP, type LookupFunction, type Socket } from 'node:net'
import type { AddressRule } from '../security/address.ts'
import type { LookupAll, SetTimer } from './attempt-request.ts'
import { BlockedAddressError, ConnectTimeoutError, UnresolvableError } from './classify.ts'
import { buildConnector } from './undici.ts'

export interface ConnectTools {
  readonly addresses: AddressRule
  readonly lookup: LookupAll
  /** DNS, connect and TLS together. */
  readonly connectTimeoutMs: number
  readonly setTimer: SetTimer
}

/** @returns what gives the connection up; after it the callback is still called, with an error */
export type Connect = (
  options: buildConnector.Options,
  callback: buildConnector.Callback,
) => (error: Error) => void

export const lookupAll: LookupAll = (hostname, callback) => {
  systemLookup(hostname, { all: true }, callback)
}

export function createConnect(tools: ConnectTools): Connect {
  const { addresses, connectTimeoutMs, setTimer } = tools
  // Returns the socket it is opening, which undici's types do not tell.
  const open = buildConnector({
    // Our own limit below: undici's is as coarse as a second.
    timeout: 0,
    minVersion: 'TLSv1.2',
    lookup: guardedLookup(tools),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: 250,
  }) as (...parameters: Parameters<Connect>) => Socket

  return (options, callback) => {
    // Node asks no lookup about an address, so nothing else would check it.
    if (isIP(options.hostname) !== 0 && !addresses.allows(options.hostname)) {
      callback(new BlockedAddressError(options.hostname), null)
      return () => {}
    }
    let settled = false
    const socket = open(options, (error, opened) => {
      settled = true
      cancelTimer()
      if (error !== null) {
        callback(error, null)
        return
      }
      // Belt and braces: should a runtime ignore the lookup, nothing has been sent yet.
      if (opened.remoteAddress === undefined || !addresses.allows(opened.remoteAddress)) {
        opened.on('error', () => {}).destroy()
        callback(new BlockedAddressError(opened.remoteAddress ?? 'unknown'), null)
        return
      }
      callback(null, opened)
    })
    const cancelTimer = setTimer(
      () => socket.destroy(new ConnectTimeoutError(connectTimeoutMs)),
      connectTimeoutMs,
    )
    return (error) => {
      if (!settled) socket.destroy(error)
    }
  }
}

function guardedLookup({ addresses, lookup }: ConnectTools): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, (error, found) => {
      const [first] = found ?? []
      if (error !== null || first === undefined) {
        callback(new UnresolvableError(error), '', 0)
        return
      }
      // One bad address refuses all: which of them is connected to is the network's choice.
      const bad = found.find(({ address }) => !addresses.allows(address))
      if (bad !== undefined) callback(new BlockedAddressError(bad.address), '', 0)
      else if (options.all) callback(null, [...found])
      else callback(null, first.address, first.family)
    })
  }
}
