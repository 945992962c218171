// A TCP proxy in front of the database that can do what networks do: lose an answer, go silent
// without a word, refuse, and come back.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

interface Link {
  readonly client: Socket
  readonly server: Socket
  isSilent: boolean
  /** What the server says next is lost, and the connection with it. */
  losesAnswer: boolean
}

export class FaultProxy implements AsyncDisposable {
  readonly #server: Server
  readonly #port: number
  readonly #host: string
  readonly #links = new Set<Link>()
  #refuses = false
  #marks: string[] = []
  /** Answers lost so far. */
  lost = 0

  private constructor(target: URL) {
    this.#host = target.hostname
    this.#port = Number(target.port || 5432)
    this.#server = createServer((client) => this.#accept(client))
  }

  static async open(url: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(new URL(url))
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  /** The same database through this proxy. */
  url(url: string): string {
    const through = new URL(url)
    through.hostname = '127.0.0.1'
    through.port = String((this.#server.address() as AddressInfo).port)
    return through.href
  }

  /** What the server sees of its connections: their ports. */
  get ports(): number[] {
    return [...this.#links].map(({ server }) => server.localPort ?? 0)
  }

  /** The server gets and does what holds this text; its answer is lost. Once for each call. */
  loseAnswerTo(text: string): void {
    this.#marks.push(text)
  }

  /** Connections of this moment swallow everything, both ways, and stay open. */
  silence(): void {
    for (const link of this.#links) link.isSilent = true
  }

  cut(): void {
    for (const { client } of this.#links) client.resetAndDestroy()
  }

  refuse(refuses: boolean): void {
    this.#refuses = refuses
    if (refuses) this.cut()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    this.cut()
    await once(this.#server, 'close')
  }

  #accept(client: Socket): void {
    if (this.#refuses) {
      client.resetAndDestroy()
      return
    }
    const server = connect(this.#port, this.#host)
    const link: Link = { client, server, isSilent: false, losesAnswer: false }
    this.#links.add(link)
    client.on('data', (chunk) => {
      if (link.isSilent) return
      const at = this.#marks.findIndex((mark) => chunk.includes(mark))
      if (at !== -1) {
        this.#marks.splice(at, 1)
        link.losesAnswer = true
      }
      server.write(chunk)
    })
    server.on('data', (chunk) => {
      if (link.isSilent) return
      if (!link.losesAnswer) client.write(chunk)
      else {
        this.lost += 1
        client.resetAndDestroy()
      }
    })
    for (const [one, other] of [[client, server] as const, [server, client] as const]) {
      one.on('error', () => {})
      one.on('close', () => {
        this.#links.delete(link)
        if (!link.isSilent || one === client) other.destroy()
      })
    }
  }
}
