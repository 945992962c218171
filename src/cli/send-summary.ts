/** The last word of `send`: what came of the events, and what to do about the rest. */
import { count, duration } from './figures.ts'
import { displayWidth, printable } from './text-width.ts'
import type { Words } from './words.ts'

/** Of this run, unless it says otherwise. */
export interface SendResult {
  readonly accepted: number
  readonly duplicates: number
  readonly badLines: number
  readonly delivered: number
  readonly failed: number
  /** Failed in earlier runs and not sent again since. */
  readonly failedEarlier: number
  readonly cancelled: number
  readonly waiting: number
  readonly retries: number
  /** Why deliveries failed, the most frequent first. */
  readonly reasons: readonly (readonly [string, number])[]
  readonly elapsedMs: number
  readonly deliveredPerSecond: number
  /** Of all final attempts in the data file, in ms. */
  readonly latency: { readonly p50: number; readonly p99: number }
}

export function summaryLines(
  result: SendResult,
  { stopped, data, words }: { stopped: boolean; data: string; words: Words },
): string[] {
  const { latency } = result
  const lines: [string, string][] = [
    [words.sum.accepted, count(result.accepted)],
    [words.sum.duplicates, count(result.duplicates)],
    [words.sum.badLines, count(result.badLines)],
    [words.sum.delivered, count(result.delivered)],
    [words.sum.failed, withReasons(result, words.sum)],
    ...optional(words.sum.failedEarlier, result.failedEarlier),
    ...optional(words.sum.cancelled, result.cancelled),
    ...optional(words.sum.waiting, result.waiting),
    [words.sum.retries, count(result.retries)],
    [words.sum.rate, `${rate(result.deliveredPerSecond)} (${duration(result.elapsedMs)})`],
    [words.sum.latency, `p50 ${duration(latency.p50)}, p99 ${duration(latency.p99)}`],
  ]
  const wide = Math.max(...lines.map(([label]) => displayWidth(label)))
  return [
    ...lines.map(([label, text]) => `${label}${' '.repeat(wide - displayWidth(label))}  ${text}`),
    ...advice(result, stopped, data, words.sum),
  ]
}

export function rate(perSecond: number): string {
  return `${perSecond < 10 ? perSecond.toFixed(1) : count(perSecond)}/s`
}

function optional(label: string, value: number): [string, string][] {
  return value > 0 ? [[label, count(value)]] : []
}

function withReasons({ failed, reasons }: SendResult, words: Words['sum']): string {
  const shown = reasons.slice(0, 3).map(([reason, times]) => `${inWords(reason)} × ${count(times)}`)
  const more = reasons.length > 3 ? [words.otherReasons(reasons.length - 3)] : []
  return failed === 0 ? '0' : `${count(failed)} (${[...shown, ...more].join(', ')})`
}

function advice(result: SendResult, stopped: boolean, data: string, words: Words['sum']): string[] {
  const isBlocked = result.reasons.some(([reason]) => reason === 'address_blocked')
  return [
    ...(stopped ? [words.stopped(data)] : []),
    ...(isBlocked ? [words.addressBlocked] : []),
    ...(!stopped && result.failed + result.failedEarlier > 0 ? [words.retryFailed] : []),
  ]
}

function inWords(reason: string): string {
  return printable(reason.replace(/^status_/, 'HTTP ').replaceAll('_', ' '))
}
