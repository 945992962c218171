/**
 * `kmsg-webhook send`: the events of a file to one URL, through the real engine, until all of them
 * are settled. Owns the order of things; counting and showing are in send-progress.ts.
 */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import {
  type WebhookEndpointInput,
  WebhookError,
  WebhookRegistry,
  WebhookService,
} from '../index.ts'
import { idOfContent, randomId } from './event-of-line.ts'
import { exitCodes, UsageError } from './failure.ts'
import { Ahead, feed, until } from './feed.ts'
import { type Interrupt, interrupted, listenForInterrupt } from './interrupt.ts'
import { readNdjson } from './ndjson.ts'
import { noticesOnly } from './notices.ts'
import { SendProgress } from './send-progress.ts'
import { type SendResult, summaryLines } from './send-summary.ts'
import { SendTally } from './send-tally.ts'
import { displayWidth, pad } from './text-width.ts'
import type { Words } from './words.ts'

export interface SendOptions {
  /** `-` is standard input. */
  readonly file: string
  readonly to: string
  readonly secret?: string | undefined
  readonly data?: string | undefined
  readonly allow?: readonly string[] | undefined
  readonly allowPrivate?: boolean | undefined
  readonly schedule: readonly number[] | 'standard'
  readonly concurrency: number
  readonly retryFailed: boolean
  readonly words: Words
}

/** Accepted and not yet tried; more of the file is not read ahead. */
const aheadLimit = 4_000
const targetId = 'target'
const privateNetworks = [
  '127.0.0.0/8',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '::1/128',
  'fc00::/7',
]

export async function send(options: SendOptions): Promise<number> {
  using interrupt = listenForInterrupt()
  const input = await openInput(options.file)
  await checkTarget(options)
  const data = options.data ?? usualFileFor(options.to)
  const progress = new SendProgress(process.stderr, input.bytes, options.words)
  const service = createService(options, data, progress)
  const tally = new SendTally(service)
  let latency: SendResult['latency']
  try {
    await service.ready()
    labelled(progress, options.words.send, 'data', path.relative('', path.resolve(data)))
    await prepareTarget(service, options, data, progress)
    if (options.retryFailed) await retryFailed(service, options, progress, interrupt.signal)
    await tally.lookAtEarlierRuns(service, targetId)
    progress.start(tally)
    await deliver(service, options, { input, tally, progress, interrupt })
    latency = (await service.getEndpointStats(targetId)).latencyPercentiles
  } finally {
    // What is under way ends in here, and is counted.
    await service.close()
    progress.stop()
    input.stream.destroy()
  }
  const result = tally.result(latency)
  const stopped = interrupt.signal.aborted
  const lines = summaryLines(result, { stopped, data, words: options.words })
  process.stdout.write(`${lines.join('\n')}\n`)
  if (stopped) return exitCodes.interrupted
  return result.failed + result.failedEarlier + result.cancelled + result.badLines > 0
    ? exitCodes.failed
    : exitCodes.well
}

interface Journey {
  readonly input: Input
  readonly tally: SendTally
  readonly progress: SendProgress
  readonly interrupt: Interrupt
}

/** Resolves when everything is settled, or with Ctrl-C. */
async function deliver(
  service: WebhookService,
  options: SendOptions,
  { input, tally, progress, interrupt }: Journey,
): Promise<void> {
  const refused = new AbortController()
  const stop = AbortSignal.any([interrupt.signal, refused.signal])
  const ahead = new Ahead(aheadLimit)
  service.on('attempt.settled', (fact) => {
    if (fact.attempt === 1) ahead.leave(fact.deliveries)
  })
  service.on('endpoint.changed', ({ what, reason }) => {
    if (what !== 'disabled') return
    progress.print(options.words.send.disabled(reason ?? ''))
    refused.abort()
  })
  const lines = readNdjson(until(stop, input.chunks()))
  const report = {
    accepted: tally.accepted,
    badLine: (number: number, problem: string) => {
      tally.badLines += 1
      progress.badLine(number, problem)
    },
  }
  const makeId = options.file === '-' ? randomId : idOfContent
  await feed(service, lines, report, { ahead, makeId, stop })
  await Promise.race([service.drain(), interrupted(interrupt.signal)])
}

function createService(options: SendOptions, data: string, progress: SendProgress): WebhookService {
  return new WebhookService({
    storage: data,
    retryScheduleMs: options.schedule,
    allowedNetworks: networksOf(options),
    maxConcurrency: Math.max(512, options.concurrency),
    logger: noticesOnly((notice) => progress.print(notice)),
  })
}

async function prepareTarget(
  service: WebhookService,
  options: SendOptions,
  data: string,
  progress: SendProgress,
): Promise<void> {
  const endpoints = await service.listEndpoints({ tenantId: '*' })
  // A data file with another target would send the events there, too.
  const foreign = endpoints.find(({ id, url }) => id !== targetId || url !== hrefOf(options.to))
  if (foreign !== undefined) {
    throw new UsageError(
      `Expected a data file of earlier runs to ${options.to}, but ${data} belongs to the endpoint "${foreign.id}" at ${foreign.url}; name another file with --data, or leave it out.`,
    )
  }
  const target = await service.registerEndpoint(targetOf(options))
  if (typeof target.secret === 'string') {
    const { send: words } = options.words
    labelled(progress, words, 'secret', target.secret)
    progress.print(words.secretOnce)
  }
  if (target.status === 'active') return
  throw new Error(
    `Expected an active target, but it is ${target.status} since an earlier run: ${target.statusReason}; to try it again all the same, name a new file with --data.`,
  )
}

/** Before a file is made for a URL that cannot be sent to. */
async function checkTarget(options: SendOptions): Promise<void> {
  try {
    await new WebhookRegistry({ allowedNetworks: networksOf(options) }).register(targetOf(options))
  } catch (error) {
    if (!(error instanceof WebhookError) || error.code !== 'ADDRESS_BLOCKED') throw error
    const expected = error.message.replace(/; .*/, '')
    throw new WebhookError(
      error.code,
      `${expected}; to deliver inside a private network, add --allow ${networkOf(options.to)} or --allow-private.`,
      { cause: error },
    )
  }
}

function targetOf({ to, secret, concurrency }: SendOptions): WebhookEndpointInput {
  return { id: targetId, url: to, events: ['*'], secret, concurrency }
}

function networksOf({ allow = [], allowPrivate = false }: SendOptions): string[] {
  return [...allow, ...(allowPrivate ? privateNetworks : [])]
}

/** What ended without success in earlier runs begins a new round of attempts. */
async function retryFailed(
  service: WebhookService,
  { words }: SendOptions,
  progress: SendProgress,
  stop: AbortSignal,
): Promise<void> {
  let cursor: string | undefined
  let retried = 0
  while (!stop.aborted) {
    // From the newest on: what fails again meanwhile is newer than the cursor and not met twice.
    const page = await service.getFailedDeliveries(targetId, { limit: 500, cursor })
    cursor = page.at(-1)?.id
    if (cursor === undefined) break
    const results = await Promise.allSettled(page.map(({ id }) => service.retryDelivery(id)))
    retried += results.filter(({ status }) => status === 'fulfilled').length
  }
  if (retried > 0) labelled(progress, words.send, 'retry', words.send.failedBefore(retried))
}

function labelled(
  progress: SendProgress,
  words: Words['send'],
  name: 'data' | 'secret' | 'retry',
  text: string,
): void {
  const wide = Math.max(...[words.data, words.secret, words.retry].map(displayWidth))
  progress.print(`${pad(words[name], wide)}  ${text}`)
}

interface Input {
  readonly stream: Readable
  /** Null when nobody knows. */
  readonly bytes: { readonly total: number; read: number } | null
  chunks(): AsyncIterable<Uint8Array>
}

async function openInput(file: string): Promise<Input> {
  if (file === '-') return { stream: process.stdin, bytes: null, chunks: () => process.stdin }
  try {
    const handle = await open(file)
    const stat = await handle.stat()
    if (stat.isDirectory()) throw new Error('it is a folder')
    const stream = handle.createReadStream()
    const bytes = stat.isFile() ? { total: stat.size, read: 0 } : null
    const chunks = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        if (bytes !== null) bytes.read += chunk.length
        yield chunk
      }
    }
    return { stream, bytes, chunks }
  } catch (error) {
    const { message } = error as Error
    throw new UsageError(`Expected to read the events of ${file}: ${message}.`)
  }
}

/** The same command finds the same file. */
function usualFileFor(url: string): string {
  const hash = createHash('sha256').update(hrefOf(url)).digest('hex').slice(0, 8)
  return `./.k-msg/send-${hash}.db`
}

function hrefOf(url: string): string {
  return URL.canParse(url) ? new URL(url).href : url
}

function networkOf(url: string): string {
  const host = new URL(url).hostname
  if (host === 'localhost' || host.startsWith('127.')) return '127.0.0.0/8'
  if (host === '[::1]') return '::1/128'
  return '<CIDR>'
}
