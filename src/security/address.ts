/**
 * Which IP addresses a request may go to. Pure: text in, verdict out. It judges addresses only,
 * never names, because a name can mean another address a second later.
 *
 * An allow rule where one is possible: IPv6 is refused unless it lies in 2000::/3. Deny lists forget
 * families (IPv4-mapped, NAT64, 6to4, …) and each of them has been a way into a private network.
 */
import { isIP } from 'node:net'
import { describeValue, WebhookError } from '../model/errors.ts'

/** Some of these are globally reachable by IANA; no webhook receiver lives there. */
const refusedIpv4 = networks([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.31.196.0/24',
  '192.52.193.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '192.175.48.0/24',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  // Azure's metadata and DNS service: public by number, private by nature.
  '168.63.129.16/32',
])

const publicIpv6 = networks(['2000::/3'])

/** Inside 2000::/3: Teredo and other protocol blocks, documentation, 6to4 (carries IPv4), AS112. */
const refusedIpv6 = networks([
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
  '2620:4f:8000::/48',
])

type Verdict = 'opened' | 'public' | 'refused'

const maxKnown = 1_000

interface Address {
  readonly family: 4 | 6
  readonly value: bigint
}

interface Network {
  readonly family: 4 | 6
  readonly first: bigint
  readonly last: bigint
}

/**
 * @example
 * new AddressRule(['10.1.0.0/16']).allows('10.1.2.3') // true
 */
export class AddressRule {
  readonly #opened: readonly Network[]
  /** Every new connection asks twice, mostly about the same few addresses. */
  readonly #known = new Map<string, Verdict>()

  /**
   * @param allowedNetworks CIDR blocks that are reachable although they are not public. They open
   *   exactly themselves: `127.0.0.0/8` does not open `::ffff:127.0.0.1`.
   * @throws WebhookError OPTION_INVALID
   */
  constructor(allowedNetworks: readonly string[] = []) {
    this.#opened = allowedNetworks.map(parseAllowedNetwork)
  }

  /** True when any private network is opened: names inside it cannot be judged by their look. */
  get opensNetworks(): boolean {
    return this.#opened.length > 0
  }

  /** @param text an IPv4 or IPv6 address without brackets; anything else is refused */
  allows(text: string): boolean {
    return this.#verdict(text) !== 'refused'
  }

  /** True when the address is reachable only because a network was opened. */
  opens(text: string): boolean {
    return this.#verdict(text) === 'opened'
  }

  #verdict(text: string): Verdict {
    const known = this.#known.get(text)
    if (known !== undefined) return known
    const address = parseAddress(text)
    // Not remembered: it may be of any length.
    if (address === null) return 'refused'
    const verdict = within(this.#opened, address)
      ? 'opened'
      : isPublic(address)
        ? 'public'
        : 'refused'
    if (this.#known.size >= maxKnown) this.#known.clear()
    this.#known.set(text, verdict)
    return verdict
  }
}

function isPublic(address: Address): boolean {
  if (address.family === 4) return !within(refusedIpv4, address)
  return within(publicIpv6, address) && !within(refusedIpv6, address)
}

function within(list: readonly Network[], { family, value }: Address): boolean {
  return list.some((one) => one.family === family && value >= one.first && value <= one.last)
}

function networks(list: readonly string[]): Network[] {
  return list.map((text) => {
    const network = parseNetwork(text)
    if (network === null) throw new Error(`not a network: ${text}`)
    return network
  })
}

function parseAllowedNetwork(text: unknown): Network {
  const network = typeof text === 'string' ? parseNetwork(text) : null
  if (network !== null) return network
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected \`allowedNetworks\` to list CIDR blocks such as "10.0.0.0/8" or "::1/128" (first address of the block, never a name), got ${describeValue(text)}.`,
  )
}

/** Null unless it is `address/prefix` with no bit set behind the prefix. */
function parseNetwork(text: string): Network | null {
  const match = /^([^/]+)\/(0|[1-9][0-9]{0,2})$/.exec(text)
  const address = match?.[1] === undefined ? null : parseAddress(match[1])
  if (address === null) return null
  const size = address.family === 4 ? 32 : 128
  const prefix = Number(match?.[2])
  if (prefix > size) return null
  const hosts = 1n << BigInt(size - prefix)
  // `10.1.2.3/8` is either a mistake in the prefix or in the address: opening /8 would be a guess.
  if (address.value % hosts !== 0n) return null
  return { family: address.family, first: address.value, last: address.value + hosts - 1n }
}

function parseAddress(text: string): Address | null {
  const family = isIP(text)
  if (family === 4) return { family, value: ipv4Value(text) }
  // A zone (`fe80::1%eth0`) names an interface of this machine: never a target.
  if (family === 6 && !text.includes('%')) return { family, value: ipv6Value(text) }
  return null
}

function ipv4Value(text: string): bigint {
  return text.split('.').reduce((value, part) => value * 256n + BigInt(part), 0n)
}

function ipv6Value(text: string): bigint {
  const [head = '', tail] = text.split('::')
  const left = ipv6Groups(head)
  const right = tail === undefined ? [] : ipv6Groups(tail)
  const zeros = new Array<bigint>(8 - left.length - right.length).fill(0n)
  return [...left, ...zeros, ...right].reduce((value, group) => value * 65536n + group, 0n)
}

function ipv6Groups(text: string): bigint[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [BigInt(`0x${group}`)]
    const ipv4 = ipv4Value(group)
    return [ipv4 >> 16n, ipv4 & 0xffffn]
  })
}
