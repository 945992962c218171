/**
 * The address rule written a second time, to judge the first by: on bytes instead of numbers, by
 * tables instead of code, from the text of the specification instead of from the sources. It makes
 * addresses, too, so that no parser is shared either: bytes are written as text in many ways.
 */
import type { Random } from '../../src/model/clock.ts'

type Bytes = readonly number[]

interface Block {
  readonly bytes: Bytes
  readonly bits: number
}

const refused4: readonly Block[] = [
  block([0], 8),
  block([10], 8),
  block([100, 64], 10),
  block([127], 8),
  block([169, 254], 16),
  block([172, 16], 12),
  block([192, 0, 0], 24),
  block([192, 0, 2], 24),
  block([192, 31, 196], 24),
  block([192, 52, 193], 24),
  block([192, 88, 99], 24),
  block([192, 168], 16),
  block([192, 175, 48], 24),
  block([198, 18], 15),
  block([198, 51, 100], 24),
  block([203, 0, 113], 24),
  block([224], 4),
  block([240], 4),
  block([168, 63, 129, 16], 32),
]

const allowed6: readonly Block[] = [block([0x20], 3, 16)]

const refused6: readonly Block[] = [
  block([0x20, 0x01, 0x00], 23, 16),
  block([0x20, 0x01, 0x0d, 0xb8], 32, 16),
  block([0x20, 0x02], 16, 16),
  block([0x3f, 0xff, 0x00], 20, 16),
  block([0x26, 0x20, 0x00, 0x4f, 0x80, 0x00], 48, 16),
]

/** Ways in which IPv4 has been carried inside IPv6: its bytes follow the prefix. */
const carriers: readonly Bytes[] = [
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255],
  [0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0],
  [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
  [0, 0x64, 0xff, 0x9b, 0, 1],
  [0x20, 0x02],
  [0x20, 0x01, 0, 0],
  [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe],
  [0x26, 0x06, 0x47, 0x00, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe],
]

/** @param bytes 4 or 16 */
export function secondRule(bytes: Bytes): boolean {
  if (bytes.length === 4) return !refused4.some((one) => contains(one, bytes))
  return (
    allowed6.some((one) => contains(one, bytes)) && !refused6.some((one) => contains(one, bytes))
  )
}

/** Bytes near what matters: inside blocks, at their edges, carriers of IPv4, and anything. */
export function someAddress(random: Random): number[] {
  const dice = random()
  if (dice < 0.15) return randomBytes(random, 4)
  if (dice < 0.4) return near(pick(random, refused4), random)
  if (dice < 0.55) return near(pick(random, [...refused6, ...allowed6]), random)
  if (dice < 0.9) return carried(random)
  return randomBytes(random, 16)
}

/** First, middle and last of every block, and the neighbours on both sides. */
export function edgesOfAllBlocks(): number[][] {
  return [...refused4, ...refused6, ...allowed6].flatMap((one) => {
    const first = filled(one, 0)
    const last = filled(one, 255)
    const middle = filled(one, 0)
    const next = Math.floor(one.bits / 8)
    if (next < middle.length) middle[next] = (middle[next] ?? 0) | (128 >> (one.bits % 8))
    return [first, middle, last, step(first, -1), step(last, 1)]
  })
}

/** One of the texts that mean these bytes. */
export function textOf(bytes: Bytes, random: Random): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from(
    { length: 8 },
    (_, i) => (bytes[2 * i] ?? 0) * 256 + (bytes[2 * i + 1] ?? 0),
  )
  const upper = random() < 0.3
  const padded = random() < 0.3
  const words = groups.map((group) => {
    const text = group.toString(16).padStart(padded ? 4 : 1, '0')
    return upper ? text.toUpperCase() : text
  })
  const dotted = random() < 0.4
  if (dotted) words.splice(6, 2, bytes.slice(12).join('.'))
  return random() < 0.7 ? shortened(words) : words.join(':')
}

/** The longest run of zeros becomes `::`. */
function shortened(words: readonly string[]): string {
  let best = { from: 0, length: 0 }
  for (let from = 0; from < words.length; from += 1) {
    let length = 0
    while (/^0+$/.test(words[from + length] ?? '')) length += 1
    if (length > best.length) best = { from, length }
  }
  if (best.length === 0) return words.join(':')
  const left = words.slice(0, best.from).join(':')
  return `${left}::${words.slice(best.from + best.length).join(':')}`
}

function carried(random: Random): number[] {
  const prefix = pick(random, carriers)
  const inner = random() < 0.5 ? near(pick(random, refused4), random) : randomBytes(random, 4)
  const rest = 16 - prefix.length - 4
  return [
    ...prefix,
    ...inner,
    ...(random() < 0.5 ? Array<number>(rest).fill(0) : randomBytes(random, rest)),
  ]
}

/** Inside the block at random, or one of its edges or neighbours. */
function near(one: Block, random: Random): number[] {
  const dice = random()
  if (dice < 0.2) return filled(one, 0)
  if (dice < 0.4) return filled(one, 255)
  if (dice < 0.5) return step(filled(one, 0), -1)
  if (dice < 0.6) return step(filled(one, 255), 1)
  return filled(one, () => Math.floor(random() * 256))
}

function block(prefix: Bytes, bits: number, size = 4): Block {
  return { bytes: [...prefix, ...Array<number>(size - prefix.length).fill(0)], bits }
}

function contains({ bytes, bits }: Block, address: Bytes): boolean {
  if (bytes.length !== address.length) return false
  for (let bit = 0; bit < bits; bit += 1) {
    if (bitOf(bytes, bit) !== bitOf(address, bit)) return false
  }
  return true
}

function bitOf(bytes: Bytes, bit: number): number {
  return ((bytes[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1
}

/** The prefix, and behind it what is given. */
function filled({ bytes, bits }: Block, rest: number | (() => number)): number[] {
  return bytes.map((byte, index) => {
    const fixed = Math.min(8, Math.max(0, bits - index * 8))
    const mask = (0xff00 >> fixed) & 255
    const value = typeof rest === 'number' ? rest : rest()
    return (byte & mask) | (value & ~mask & 255)
  })
}

/** Counts up or down by one, around the end. */
function step(bytes: Bytes, by: 1 | -1): number[] {
  const next = [...bytes]
  for (let i = next.length - 1; i >= 0; i -= 1) {
    const value = (next[i] ?? 0) + by
    next[i] = (value + 256) % 256
    if (value >= 0 && value < 256) break
  }
  return next
}

function randomBytes(random: Random, count: number): number[] {
  return Array.from({ length: count }, () => Math.floor(random() * 256))
}

function pick<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T
}
