/**
 * One connection: opened by the guarded connector with its first request, it carries one request at
 * a time and reads the reply to it. No pipelining: a reply that is late would hold up the others.
 */
import { Buffer } from 'node:buffer'
import type { Socket } from 'node:net'
import { closedEarly, type OpeningPhase } from './classify.ts'
import type { Connect, Opening } from './connect.ts'
import type { Target } from './prepare.ts'
import { type ReplyHead, ReplyReader, type ReplyTaker } from './reply-reader.ts'

/** Who sends a request and is told what becomes of it; of the last two calls exactly one comes. */
export interface Carried extends ReplyTaker {
  /** The request is about to be written. */
  onSend(): void
  /** @param reusable whether the connection can carry another request */
  onComplete(reusable: boolean): void
  onError(error: Error): void
}

/** Larger bodies are written beside the head: copying them costs more than a second buffer. */
const maxJoinedBytes = 16_384

export class Connection implements ReplyTaker {
  readonly #target: Target
  readonly #connect: Connect
  /** Called when it was closed, or spoke, without carrying a request: it is of no use then. */
  readonly #lost: () => void
  readonly #reader = new ReplyReader(this)
  #opening: Opening | null = null
  #socket: Socket | null = null
  #carried: Carried | null = null
  #head: ReplyHead | null = null
  #error: Error | null = null
  #destroyed: (() => void) | null = null
  #isClosed = false
  /** Whether it stayed open after a reply. */
  #isKept = false

  constructor(target: Target, connect: Connect, lost: () => void) {
    this.#target = target
    this.#connect = connect
    this.#lost = lost
  }

  /** What it waits for while it is being opened. */
  get opening(): OpeningPhase {
    return this.#opening?.phase ?? 'connect'
  }

  /** How long the receiver keeps it open without a request; null when it did not say. */
  get keepAliveMs(): number | null {
    return this.#head?.keepAliveMs ?? null
  }

  /** @param head request line and headers, the empty line included */
  send(head: string, body: Uint8Array, carried: Carried): void {
    this.#carried = carried
    this.#head = null
    this.#reader.reset()
    if (this.#socket !== null) this.#write(this.#socket, head, body, carried)
    else this.#open(head, body, carried)
  }

  /** Whether it keeps the process alive. */
  hold(held: boolean): void {
    if (held) this.#socket?.ref()
    else this.#socket?.unref()
  }

  /** @param destroyed called when the socket is closed */
  destroy(destroyed: () => void): void {
    this.#carried = null
    this.#opening?.giveUp(new Error('given up'))
    if (this.#socket === null || this.#isClosed) destroyed()
    else {
      this.#destroyed = destroyed
      this.#socket.destroy()
    }
  }

  onHead(head: ReplyHead): void {
    this.#head = head
    this.#carried?.onHead(head)
  }

  onBody(bytes: Uint8Array): void {
    this.#carried?.onBody(bytes)
  }

  #open(head: string, body: Uint8Array, carried: Carried): void {
    const received = (bytes: Buffer): void => this.#received(bytes)
    this.#opening = this.#connect(this.#target, received, (error, socket) => {
      this.#opening = null
      if (socket === null) this.#fail(error ?? new Error('no connection'))
      else {
        this.#socket = socket
        socket.on('error', (failure: Error) => {
          this.#error = failure
          // Its close comes a moment later, and in between it could be given a request.
          if (this.#carried === null) this.#lost()
        })
        socket.on('end', () => this.#ended()).on('close', () => this.#closed())
        if (this.#carried === carried) this.#write(socket, head, body, carried)
        else socket.destroy()
      }
    })
  }

  #write(socket: Socket, head: string, body: Uint8Array, carried: Carried): void {
    carried.onSend()
    if (body.length <= maxJoinedBytes) {
      // One text of one byte a character is one write without a buffer of its own.
      socket.write(head + bufferOf(body).toString('latin1'), 'latin1')
      return
    }
    socket.cork()
    socket.write(head, 'latin1')
    socket.write(body)
    socket.uncork()
  }

  #received(bytes: Buffer): void {
    const carried = this.#carried
    if (carried === null) {
      // Nobody asked: what comes could be taken for the reply to the next request.
      this.#lost()
      return
    }
    let used: number
    try {
      used = this.#reader.read(bytes)
    } catch (error) {
      this.#fail(error as Error)
      return
    }
    if (this.#reader.isDone) this.#complete(used === bytes.length)
  }

  /** @param clean whether nothing follows the reply, and its connection is still open */
  #complete(clean: boolean): void {
    const carried = this.#carried
    // What is not yet written of a request that was answered early would become part of the next.
    const isWritten = this.#socket?.writableLength === 0
    const reusable = clean && isWritten && this.#head?.keepAlive === true
    if (reusable && !this.#isKept) {
      this.#isKept = true
      this.#completeIfKept(carried)
      return
    }
    this.#carried = null
    carried?.onComplete(reusable)
  }

  /**
   * Some receivers close after their reply without having said so, and the next request would be lost
   * with the connection. Such a close is read in the turn of the loop that comes after the reply.
   */
  #completeIfKept(carried: Carried | null): void {
    setImmediate(() =>
      setImmediate(() => {
        if (this.#carried === carried) this.#complete(this.#socket?.destroyed === false)
      }),
    )
  }

  #ended(): void {
    if (this.#carried === null) this.#lost()
    else if (this.#reader.end()) this.#complete(false)
    // Now, and not when it is closed: that waits for what is not yet written of the request.
    else this.#fail(closedEarly())
  }

  #closed(): void {
    this.#isClosed = true
    const destroyed = this.#destroyed
    if (destroyed !== null) destroyed()
    else if (this.#carried === null) this.#lost()
    else this.#fail(this.#error ?? closedEarly())
  }

  #fail(error: Error): void {
    const carried = this.#carried
    this.#carried = null
    carried?.onError(error)
  }
}

function bufferOf(body: Uint8Array): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength)
}
