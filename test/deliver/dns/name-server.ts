/** A name server of a few lines on 127.0.0.1, UDP and TCP on one port: it answers what a test says. */
import { createSocket } from 'node:dgram'
import { type AddressInfo, createServer, isIP, type Socket } from 'node:net'

const types = { A: 1, CNAME: 5, AAAA: 28 } as const
export type RecordType = keyof typeof types

export interface DnsRecord {
  /** Of the answer section; the name asked for by default. */
  name?: string
  type?: RecordType
  /** An address, or the name a CNAME leads to. */
  data: string
  ttl?: number
}

/** Records, a response code (2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED), or null for silence. */
export type DnsAnswer = readonly DnsRecord[] | { rcode: number } | null

export interface NameServer extends AsyncDisposable {
  /** `127.0.0.1:port` */
  readonly address: string
  /** `A example.net`, in the order of coming; `tcp` in front where it came that way. */
  readonly asked: string[]
}

/** What fits into an answer over UDP. */
const maxUdpBytes = 512

export async function nameServer(
  answer: (name: string, type: RecordType) => DnsAnswer,
  { host = '127.0.0.1', port: wantedPort = 0 } = {},
): Promise<NameServer> {
  const asked: string[] = []
  const respond = (query: Buffer, via: '' | 'tcp '): Buffer | null => {
    const { name, type, end } = questionOf(query)
    if (type === undefined) return message(query, end, [], { rcode: 4 })
    asked.push(`${via}${type} ${name}`)
    const found = answer(name, type)
    if (found === null) return null
    if ('rcode' in found) return message(query, end, [], found)
    const full = message(
      query,
      end,
      found.map((one) => record(one, type)),
      {},
    )
    if (via === '' && full.length > maxUdpBytes) return message(query, end, [], { truncated: true })
    return full
  }

  const sockets = new Set<Socket>()
  const tcp = createServer((socket) => {
    sockets.add(socket)
    let pending = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk])
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const length = pending.readUInt16BE(0)
        const response = respond(pending.subarray(2, 2 + length), 'tcp ')
        pending = pending.subarray(2 + length)
        if (response !== null) socket.write(Buffer.concat([uint16(response.length), response]))
      }
    })
  })
  await new Promise<void>((resolve) => tcp.listen(wantedPort, host, resolve))
  const { port } = tcp.address() as AddressInfo
  // Hundreds of questions come in one turn of the event loop, in which nobody reads them.
  const udp = createSocket({ type: 'udp4', recvBufferSize: 1_000_000 })
  udp.on('message', (query, from) => {
    const response = respond(query, '')
    if (response !== null) udp.send(response, from.port, from.address)
  })
  await new Promise<void>((resolve) => udp.bind(port, host, resolve))
  return {
    address: `${host}:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await Promise.all([
        new Promise<void>((resolve) => udp.close(() => resolve())),
        new Promise((resolve) => tcp.close(resolve)),
      ])
    },
  }
}

function questionOf(query: Buffer): { name: string; type: RecordType | undefined; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  const number = query.readUInt16BE(at + 1)
  const type = Object.entries(types).find(([, code]) => code === number)?.[0] as RecordType
  return { name: labels.join('.').toLowerCase(), type, end: at + 5 }
}

function message(
  query: Buffer,
  questionEnd: number,
  answers: readonly Buffer[],
  { rcode = 0, truncated = false }: { rcode?: number; truncated?: boolean },
): Buffer {
  const flags = 0x8180 | rcode | (truncated ? 0x0200 : 0)
  const counts = [1, answers.length, 0, 0]
  const head = Buffer.concat([query.subarray(0, 2), uint16(flags), ...counts.map(uint16)])
  return Buffer.concat([head, query.subarray(12, questionEnd), ...answers])
}

function record({ name, type, data, ttl = 60 }: DnsRecord, asked: RecordType): Buffer {
  const kind = type ?? asked
  const bytes = kind === 'CNAME' ? encodeName(data) : encodeAddress(data)
  const seconds = Buffer.alloc(4)
  seconds.writeUInt32BE(ttl)
  // A pointer to the question, or a name of its own.
  const owner = name === undefined ? Buffer.from([0xc0, 12]) : encodeName(name)
  return Buffer.concat([
    owner,
    uint16(types[kind]),
    uint16(1),
    seconds,
    uint16(bytes.length),
    bytes,
  ])
}

function encodeName(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.from(label, 'latin1'))
  return Buffer.concat([
    ...labels.flatMap((label) => [Buffer.from([label.length]), label]),
    Buffer.from([0]),
  ])
}

function encodeAddress(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').flatMap(group))
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  return Buffer.from([...left, ...Array(16 - left.length - right.length).fill(0), ...right])
}

function group(text: string): number[] {
  if (text.includes('.')) return text.split('.').map(Number)
  const value = Number.parseInt(text, 16)
  return [value >> 8, value & 255]
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}
