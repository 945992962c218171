/**
 * Reads what one connection answers: HTTP/1.1 replies to POST (RFC 9112), each as it comes in. Strict
 * where a lenient reader and a receiver could disagree about where a reply ends: such a reply is
 * refused, and its connection with it.
 *
 * Ours and not a library's: it hands over a status and at most five headers, where a general client
 * builds objects for all of them, and that was half of the time of a delivery (bench/, decision 0021).
 */
import type { Buffer } from 'node:buffer'

export interface ReplyHead {
  /** 200 to 599 by custom; three digits by syntax. */
  readonly status: number
  /** Values of `Retry-After`, as they came. */
  readonly retryAfter: readonly string[]
  /** Whether the receiver leaves the connection open after this reply. */
  readonly keepAlive: boolean
  /** How long it does, by `Keep-Alive: timeout`; null when it does not say. */
  readonly keepAliveMs: number | null
  readonly framing: Framing
  /** Of framing 'length'. */
  readonly length: number
}

type Framing = 'length' | 'chunked' | 'until-close'

/** Who is told about a reply. */
export interface ReplyTaker {
  onHead(head: ReplyHead): void
  /** A view of the bytes that were read: valid during the call only. */
  onBody(bytes: Uint8Array): void
}

export class ReplyError extends Error {
  /** `EPROTO`: no HTTP, or such as nobody asked for. The other as `node:http` calls it. */
  readonly code: 'EPROTO' | 'HPE_HEADER_OVERFLOW'

  constructor(code: ReplyError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** Of a head, and of all that is neither head nor body in a chunked reply. */
const maxHeadBytes = 16_384
/** 100 Continue and its kind; they come before the reply, and a receiver may send them unasked. */
const maxInterimReplies = 16
const maxChunkBytes = 2 ** 48
/** Of each connection. */
const maxRememberedBytes = 1_024

/** A line break is CRLF and nothing else, a name is a token, no line goes on in the next. */
const headerLines = String.raw`(?:[!#$%&'*+.^_\`|~\dA-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n$`
const wellFormedHead = new RegExp(
  String.raw`^HTTP/1\.[01] [1-9]\d\d(?: [\t\x20-\x7e\x80-\xff]*)?\r\n${headerLines}`,
)
const wellFormedTrailer = /^[!#$%&'*+.^_`|~\dA-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n$/
const wanted =
  /\n(content-length|transfer-encoding|connection|keep-alive|retry-after):[\t ]*([^\r]*)/gi

type State =
  | 'head'
  | 'length'
  | 'until-close'
  | 'chunk-size'
  | 'chunk-extension'
  | 'chunk-size-end'
  | 'chunk'
  | 'chunk-end'
  | 'chunk-end-line'
  | 'trailers'
  | 'done'

const carriageReturn = 13
const lineFeed = 10

export class ReplyReader {
  readonly #taker: ReplyTaker
  #state: State = 'head'
  /** What came of a head, or of a trailer, that is not complete. */
  #pending = ''
  #interimReplies = 0
  /** Of the body, or of the chunk. */
  #left = 0
  #hasChunkSize = false
  #overhead = 0
  /** Receivers answer alike from one time to the next: the same text has the same meaning. */
  #lastText = ''
  #lastHead: ReplyHead | null = null

  constructor(taker: ReplyTaker) {
    this.#taker = taker
  }

  /** For the reply to the next request. */
  reset(): void {
    this.#state = 'head'
    this.#pending = ''
    this.#interimReplies = 0
    this.#overhead = 0
  }

  /**
   * @returns how many of the bytes belong to this reply: fewer than came when the receiver sends more
   *   than it was asked for
   * @throws ReplyError
   */
  read(bytes: Buffer): number {
    let at = 0
    while (at < bytes.length && this.#state !== 'done') {
      if (this.#state === 'head') at = this.#readHead(bytes, at)
      else if (this.#state === 'length' || this.#state === 'chunk') at = this.#readLeft(bytes, at)
      else if (this.#state === 'until-close') {
        this.#taker.onBody(bytes.subarray(at))
        at = bytes.length
      } else {
        this.#readBetweenChunks(bytes[at] ?? 0)
        at += 1
      }
    }
    return at
  }

  /** True when the reply is complete. */
  get isDone(): boolean {
    return this.#state === 'done'
  }

  /** The receiver has closed its side. @returns whether that completes the reply */
  end(): boolean {
    if (this.#state === 'until-close') this.#state = 'done'
    return this.#state === 'done'
  }

  #readHead(bytes: Buffer, start: number): number {
    let at = start
    if (this.#pending === '') {
      // A line break too many after the reply before, as some receivers send it.
      while (bytes[at] === carriageReturn || bytes[at] === lineFeed) {
        at += 1
        this.#countOverhead()
      }
    }
    const before = this.#pending.length
    const text =
      this.#pending + bytes.toString('latin1', at, Math.min(bytes.length, at + maxHeadBytes))
    const end = text.indexOf('\r\n\r\n', Math.max(0, before - 3))
    if (end < 0 || end + 4 > maxHeadBytes) {
      this.#checkBeginning(text, before)
      if (text.length >= maxHeadBytes) {
        throw new ReplyError('HPE_HEADER_OVERFLOW', `head of more than ${maxHeadBytes} bytes`)
      }
      this.#pending = text
      return bytes.length
    }
    this.#pending = ''
    this.#begin(this.#headOf(text.slice(0, end + 4)))
    return at + end + 4 - before
  }

  /**
   * What cannot become a reply is refused at once, not at the deadline.
   *
   * @param from where what is new in it begins
   */
  #checkBeginning(text: string, from: number): void {
    const known = 'HTTP/1.'
    if (!text.startsWith(known.slice(0, text.length))) throw notHttp('another beginning')
    for (let at = text.indexOf('\n', from); at >= 0; at = text.indexOf('\n', at + 1)) {
      if (text[at - 1] !== '\r') throw notHttp('half a line break')
    }
  }

  #headOf(text: string): ReplyHead {
    if (this.#lastHead !== null && text === this.#lastText) return this.#lastHead
    const head = parseHead(text)
    if (text.length > maxRememberedBytes) return head
    this.#lastText = text
    this.#lastHead = head
    return head
  }

  #begin(head: ReplyHead): void {
    if (head.status < 200) {
      this.#interimReplies += 1
      if (head.status === 101 || this.#interimReplies > maxInterimReplies) {
        throw notHttp(`unasked ${head.status}`)
      }
      return
    }
    this.#left = head.length
    this.#taker.onHead(head)
    if (head.framing === 'chunked') this.#state = 'chunk-size'
    else if (head.framing === 'until-close') this.#state = 'until-close'
    else this.#state = head.length === 0 ? 'done' : 'length'
    this.#hasChunkSize = false
  }

  #readLeft(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#left)
    this.#left -= end - at
    this.#taker.onBody(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end))
    if (this.#left === 0) this.#state = this.#state === 'chunk' ? 'chunk-end' : 'done'
    return end
  }

  /** Sizes, extensions and trailers, byte by byte: few they are, and of no use. */
  #readBetweenChunks(byte: number): void {
    // Chunks of a byte each would be an endless reply of little body.
    this.#countOverhead()
    switch (this.#state) {
      case 'chunk-size':
        this.#readChunkSize(byte)
        break
      case 'chunk-extension':
        if (byte === carriageReturn) this.#state = 'chunk-size-end'
        else if (byte === lineFeed || byte === 0) throw notHttp('a control character')
        break
      case 'chunk-size-end':
        expectLineFeed(byte)
        this.#state = this.#left === 0 ? 'trailers' : 'chunk'
        break
      case 'chunk-end':
        if (byte !== carriageReturn) throw notHttp('a chunk longer than its size')
        this.#state = 'chunk-end-line'
        break
      case 'chunk-end-line':
        expectLineFeed(byte)
        this.#hasChunkSize = false
        this.#state = 'chunk-size'
        break
      case 'trailers':
        this.#readTrailers(byte)
        break
    }
  }

  #readTrailers(byte: number): void {
    this.#pending += String.fromCharCode(byte)
    // Looked at by lines: looking at every byte would copy all that came before it.
    if (byte !== lineFeed) return
    const line = this.#pending
    this.#pending = ''
    if (line === '\r\n') this.#state = 'done'
    else if (!wellFormedTrailer.test(line)) throw notHttp('a malformed trailer')
  }

  #readChunkSize(byte: number): void {
    const digit = hexDigit(byte)
    if (digit >= 0) {
      this.#left = (this.#hasChunkSize ? this.#left * 16 : 0) + digit
      this.#hasChunkSize = true
      if (this.#left >= maxChunkBytes) throw notHttp('a chunk beyond all sizes')
      return
    }
    if (!this.#hasChunkSize) throw notHttp('a chunk without a size')
    if (byte === carriageReturn) this.#state = 'chunk-size-end'
    else if (byte === 0x3b || byte === 0x20 || byte === 0x09) this.#state = 'chunk-extension'
    else throw notHttp('a chunk without a size')
  }

  #countOverhead(): void {
    this.#overhead += 1
    if (this.#overhead > maxHeadBytes) {
      throw new ReplyError('HPE_HEADER_OVERFLOW', `more than ${maxHeadBytes} bytes beside the body`)
    }
  }
}

/** @throws ReplyError */
function parseHead(text: string): ReplyHead {
  if (!wellFormedHead.test(text)) throw notHttp('a malformed head')
  const status = Number(text.slice(9, 12))
  const retryAfter: string[] = []
  let length: number | null = null
  let coding = ''
  let connection = ''
  let keepAliveMs: number | null = null
  for (const [, name = '', rest = ''] of text.matchAll(wanted)) {
    const value = withoutBlanks(rest)
    switch (name.toLowerCase()) {
      case 'content-length':
        // Also twice the same: whoever sends two has two ideas of it.
        if (length !== null || !/^0*\d{1,15}$/.test(value)) throw notHttp('a length that is none')
        length = Number(value)
        break
      case 'transfer-encoding':
        coding += `,${value.toLowerCase()}`
        break
      case 'connection':
        connection += `,${value.toLowerCase()}`
        break
      case 'keep-alive':
        keepAliveMs = keepAliveOf(value)
        break
      default:
        retryAfter.push(value)
    }
  }
  const framing = framingOf(status, length, coding)
  const asked = new Set(connection.split(/[\t ,]+/))
  const open = !asked.has('close') && (text[7] === '1' || asked.has('keep-alive'))
  return {
    status,
    retryAfter,
    keepAlive: open && framing !== 'until-close',
    keepAliveMs,
    framing,
    length: framing === 'length' && hasBody(status) ? (length ?? 0) : 0,
  }
}

function hasBody(status: number): boolean {
  return status !== 204 && status !== 304
}

/** @param coding a list with empty elements, which count for nothing */
function framingOf(status: number, length: number | null, coding: string): Framing {
  const last = coding
    .split(',')
    .map(withoutBlanks)
    .findLast((one) => one !== '')
  if (last !== undefined && length !== null) throw notHttp('two ends of one body')
  if (status < 200 || !hasBody(status)) return 'length'
  if (last === undefined) return length === null ? 'until-close' : 'length'
  // Said twice it is one framing all the same: who copies the headers of another reply says it twice.
  return last === 'chunked' ? 'chunked' : 'until-close'
}

/** `trim` takes a no-break space for one, and `chunked` with that behind it is no coding we know. */
function withoutBlanks(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text[start])) start += 1
  while (start < end && isBlank(text[end - 1])) end -= 1
  return text.slice(start, end)
}

function isBlank(character: string | undefined): boolean {
  return character === ' ' || character === '\t'
}

function keepAliveOf(value: string): number | null {
  const seconds = /(?:^|[,\s])timeout\s*=\s*"?(\d{1,9})/i.exec(value)?.[1]
  return seconds === undefined ? null : Number(seconds) * 1000
}

function expectLineFeed(byte: number): void {
  if (byte !== lineFeed) throw notHttp('half a line break')
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

function notHttp(what: string): ReplyError {
  return new ReplyError('EPROTO', `expected an HTTP/1.1 reply, got ${what}`)
}
