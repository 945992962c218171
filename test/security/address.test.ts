import { BlockList } from 'node:net'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AddressRule } from '../../src/security/address.ts'
import { compareRules } from './address-property.ts'

const rule = new AddressRule()

const refused4 = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16'],
  ...['172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24'],
  ...['192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24', '198.18.0.0/15', '198.51.100.0/24'],
  ...['203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4', '168.63.129.16/32'],
]
const refused6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20', '2620:4f:8000::/48']

/** An oracle that shares no code with the rule: Node's own list. */
const oracle4 = blockList(refused4, 'ipv4')
const oracle6 = blockList(refused6, 'ipv6')
const public6 = blockList(['2000::/3'], 'ipv6')

describe('the first, a middle, and the last address of every refused block', () => {
  it.each(refused4)('%s', (block) => {
    const [first, middle, last, before, after] = edges4(block)
    for (const address of [first, middle, last]) expect(rule.allows(address)).toBe(false)
    // Beside the block the oracle decides: some blocks touch each other.
    for (const address of [before, after]) {
      expect(rule.allows(address), address).toBe(!oracle4.check(address, 'ipv4'))
    }
  })

  it.each([
    ['2001::/23', '2001::', '2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff', '2001:200::'],
    ['2001:db8::/32', '2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', '2001:db9::'],
    ['2002::/16', '2002::', '2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '2003::'],
    ['3fff::/20', '3fff::', '3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff', '3fff:1000::'],
    [
      '2620:4f:8000::/48',
      '2620:4f:8000::',
      '2620:4f:8000:ffff:ffff:ffff:ffff:ffff',
      '2620:4f:8001::',
    ],
  ])('%s', (_, first, last, after) => {
    expect([first, last, after].map((address) => rule.allows(address))).toEqual([
      false,
      false,
      true,
    ])
  })

  it('the edges of what is public', () => {
    expect(rule.allows('1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')).toBe(false)
    expect(rule.allows('2000::')).toBe(true)
    expect(rule.allows('3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')).toBe(true)
    expect(rule.allows('4000::')).toBe(false)
  })
})

describe('random addresses', () => {
  it('are judged as Node would, IPv4', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        expect(rule.allows(address)).toBe(!oracle4.check(address, 'ipv4'))
      }),
      { numRuns: 20_000 },
    )
  })

  it('are judged as Node would, IPv6', () => {
    const near = fc
      .tuple(fc.constantFrom('2001', '2002', '3fff', '2620:4f', '2000', '64:ff9b'), fc.nat(0xffff))
      .map(([start, group]) => `${start}:${group.toString(16)}::1`)
    fc.assert(
      fc.property(fc.oneof(fc.ipV6(), near), (address) => {
        const expected = public6.check(address, 'ipv6') && !oracle6.check(address, 'ipv6')
        expect(rule.allows(address), address).toBe(expected)
      }),
      { numRuns: 20_000 },
    )
  })

  it('peers 17: never open IPv4 through IPv6', () => {
    const carriers = ['::ffff:', '::', '::ffff:0:', '64:ff9b::', '64:ff9b:1::', '::1:']
    fc.assert(
      fc.property(fc.constantFrom(...carriers), fc.ipV4(), (carrier, address) => {
        expect(rule.allows(carrier + address)).toBe(false)
        expect(new AddressRule(['0.0.0.0/0']).allows(carrier + address)).toBe(false)
      }),
    )
  })
})

describe('a rule written a second time, on bytes', () => {
  it('agrees on a hundred thousand addresses and on the edges of every block', () => {
    const { disagreements, allowed, refused } = compareRules(100_000)
    expect(disagreements).toEqual([])
    expect(Math.min(allowed, refused)).toBeGreaterThan(10_000)
  })

  it.each([
    ['forgets mapped addresses', (text: string) => /^::ffff:/i.test(text) || rule.allows(text)],
    [
      'ends a block one too early',
      (text: string) => text === '172.31.255.255' || rule.allows(text),
    ],
    ['opens one bit too many', (text: string) => /^3fff:/i.test(text) || rule.allows(text)],
  ])('finds a rule that %s', (_, judge) => {
    expect(compareRules(2_000, judge).disagreements).not.toEqual([])
  })
})

describe('text that is no address', () => {
  it.each([
    '',
    'localhost',
    '127.1',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '2130706433',
    '8.8.8.8.',
    ' 8.8.8.8',
  ])('refuses %j', (text) => {
    expect(rule.allows(text)).toBe(false)
  })

  it('refuses a zone even where its address is public', () => {
    expect(rule.allows('2606:4700:4700::1111%eth0')).toBe(false)
  })
})

describe('`allowedNetworks`', () => {
  it('peers 17: opens exactly the block', () => {
    const opened = new AddressRule(['127.0.0.0/8', 'fd00:1::/32'])
    expect(
      ['126.255.255.255', '127.0.0.0', '127.255.255.255', '128.0.0.0'].map((address) =>
        opened.allows(address),
      ),
    ).toEqual([true, true, true, true])
    expect(opened.opens('126.255.255.255')).toBe(false)
    expect(opened.allows('10.0.0.1')).toBe(false)
    expect(opened.allows('fd00:1:ffff::')).toBe(true)
    expect(opened.allows('fd00:2::')).toBe(false)
    expect(opened.allows('::ffff:127.0.0.1')).toBe(false)
  })

  it.each(['localhost', '127.0.0.1', '10.1.2.3/8', '127.0.0.0/33', '::/129', '127.0.0.0/08', 5])(
    'refuses %j',
    (network) => {
      expect(() => new AddressRule([network as string])).toThrow(
        expect.objectContaining({ code: 'OPTION_INVALID' }),
      )
    },
  )
})

function blockList(blocks: readonly string[], family: 'ipv4' | 'ipv6'): BlockList {
  const list = new BlockList()
  for (const block of blocks) {
    const [address = '', prefix] = block.split('/')
    list.addSubnet(address, Number(prefix), family)
  }
  return list
}

function edges4(block: string): [string, string, string, string, string] {
  const [address = '', prefix] = block.split('/')
  const first = address.split('.').reduce((value, part) => value * 256 + Number(part), 0)
  const size = 2 ** (32 - Number(prefix))
  const values = [first, first + Math.floor(size / 2), first + size - 1, first - 1, first + size]
  return values.map(text4) as ReturnType<typeof edges4>
}

function text4(value: number): string {
  const wrapped = (value + 2 ** 32) % 2 ** 32
  return [24, 16, 8, 0].map((shift) => Math.floor(wrapped / 2 ** shift) % 256).join('.')
}
