/**
 * Proves, before anything is sent, that the runtime connects to the addresses it is given, and does
 * not look names up by itself. One that did would connect to whatever the name leads to at that
 * moment: the address guard would check one address and the request go to another.
 */
import { connect, type LookupFunction, type NetConnectOpts } from 'node:net'
import { WebhookError } from '../model/errors.ts'
import { addressing } from './open-socket.ts'

/**
 * The limited broadcast address: no system opens a TCP connection to it, so that no packet is sent.
 * The name exists nowhere (RFC 6761).
 */
const nowhere = { address: '255.255.255.255', family: 4 }
const nobody = 'guard-check.invalid'

/** The part of a socket that is needed to see whom the runtime asks. */
interface CheckedSocket {
  on(event: 'error' | 'close' | 'connect', listener: () => void): unknown
  destroy(): unknown
}

export type OpenChecked = (options: NetConnectOpts) => CheckedSocket

/** @throws WebhookError GUARD_BYPASSED */
export async function checkAddressesAreKept(
  open: OpenChecked = connect,
  limitMs = 1_000,
): Promise<void> {
  if (await addressesAreKept(open, limitMs)) return
  throw new WebhookError(
    'GUARD_BYPASSED',
    'Expected `node:net` to connect to the addresses that were checked, got one that looks names up by itself: the runtime, or a bundler, has put another module in its place. Nothing is sent without the guard.',
  )
}

function addressesAreKept(open: OpenChecked, limitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    let socket: CheckedSocket | null = null
    const end = (kept: boolean): void => {
      clearTimeout(timer)
      resolve(kept)
      // Not inside its own callback: it may still be about to use itself.
      setImmediate(() => socket?.destroy())
    }
    const timer = setTimeout(() => end(false), limitMs)
    const ours = addressing([nowhere])
    const lookup: LookupFunction = (name, options, callback) => {
      end(name === nobody)
      ours.lookup(name, options, callback)
    }
    try {
      socket = open({ ...ours, lookup, host: nobody, port: 9 })
      // Ended or connected without having asked us.
      for (const event of ['error', 'close', 'connect'] as const) {
        socket.on(event, () => end(false))
      }
    } catch {
      end(false)
    }
  })
}
