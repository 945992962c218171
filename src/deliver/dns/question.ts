/**
 * Asks DNS for A and AAAA at the same time. Through c-ares, which waits on sockets: `dns.lookup`
 * holds one of four threads for as long as a name server is silent, and four dead names would stop
 * every file access of the process.
 */
import type { LookupAddress, RecordWithTtl } from 'node:dns'
import type { SetTimer } from '../attempt-request.ts'

/** The part of `dns.promises.Resolver` that is used. */
export interface DnsClient {
  resolve4(name: string, options: { ttl: true }): Promise<RecordWithTtl[]>
  resolve6(name: string, options: { ttl: true }): Promise<RecordWithTtl[]>
  cancel(): void
}

export type Answer =
  | { readonly addresses: readonly LookupAddress[]; readonly ttlMs: number }
  | { readonly error: NodeJS.ErrnoException }

type Half = { records: readonly RecordWithTtl[] } | { error: NodeJS.ErrnoException }

/**
 * How long the second answer may take after a first one with addresses. Some name servers drop
 * questions for AAAA; waiting out their silence would delay every connection by seconds.
 */
const graceMs = 200

/** Says of a name that it does not exist, or has no address of this family. */
const absent = new Set(['ENOTFOUND', 'ENODATA'])

export function meansAbsent({ code = '' }: NodeJS.ErrnoException): boolean {
  return absent.has(code)
}

/** Always resolves, at the latest when c-ares gives up. */
export function ask(client: DnsClient, name: string, setTimer: SetTimer): Promise<Answer> {
  return new Promise((resolve) => {
    const halves: [Half | null, Half | null] = [null, null]
    let cancelGrace = (): void => {}
    const arrived = (which: 0 | 1, half: Half): void => {
      halves[which] = half
      if (halves[1 - which] !== null) {
        cancelGrace()
        resolve(combine(...halves))
      } else if ('records' in half && half.records.length > 0) {
        cancelGrace = setTimer(() => resolve(combine(...halves)), graceMs)
      }
    }
    const question = (which: 0 | 1, records: Promise<RecordWithTtl[]>): void => {
      records.then(
        (found) => arrived(which, { records: found }),
        (error: NodeJS.ErrnoException) => arrived(which, { error }),
      )
    }
    question(0, client.resolve4(name, { ttl: true }))
    question(1, client.resolve6(name, { ttl: true }))
  })
}

/**
 * IPv4 first: receivers that know their senders by address know IPv4 ones, and a machine without
 * IPv6 need not find that out at every connection.
 */
function combine(four: Half | null, six: Half | null): Answer {
  const records = [recordsOf(four), recordsOf(six)] as const
  const all = records.flat()
  if (all.length > 0) {
    const addresses = records.flatMap((half, index) =>
      half.map(({ address }) => ({ address, family: index === 0 ? 4 : 6 })),
    )
    return { addresses, ttlMs: Math.min(...all.map(({ ttl }) => ttl)) * 1_000 }
  }
  const errors = [four, six].flatMap((half) =>
    half !== null && 'error' in half ? [half.error] : [],
  )
  // That one family is missing says little when the question for the other one went wrong.
  const error = errors.find((one) => !meansAbsent(one)) ?? errors[0] ?? notFound()
  return { error }
}

function recordsOf(half: Half | null): readonly RecordWithTtl[] {
  return half !== null && 'records' in half ? half.records : []
}

function notFound(): NodeJS.ErrnoException {
  return Object.assign(new Error('no address'), { code: 'ENODATA' })
}
