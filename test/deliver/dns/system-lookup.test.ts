import { expect, it } from 'vitest'
import { type GetAddrInfo, SystemLookup } from '../../../src/deliver/dns/system-lookup.ts'

it('lends out two threads; who waits is served in turn, or leaves', () => {
  const running: [name: string, done: Parameters<GetAddrInfo>[1]][] = []
  const system = new SystemLookup((name, done) => running.push([name, done]))
  const told: string[] = []
  const look = (name: string) =>
    system.lookup(name, (error, addresses) =>
      told.push(`${name} ${error?.code ?? addresses[0]?.address}`),
    )
  const names = () => running.map(([name]) => name)

  look('a')
  const leaveB = look('b')
  look('c')
  const leaveD = look('d')
  look('e')
  expect(names()).toEqual(['a', 'b'])
  leaveD()
  running[0]?.[1](null, [{ address: '10.0.0.1', family: 4 }])
  expect(names()).toEqual(['a', 'b', 'c'])
  leaveB()
  running[1]?.[1](null, [{ address: '10.0.0.2', family: 4 }])
  expect(names()).toEqual(['a', 'b', 'c', 'e'])
  running[2]?.[1](Object.assign(new Error(), { code: 'ENOTFOUND' }), [])
  running[3]?.[1](null, [{ address: '10.0.0.5', family: 4 }])
  expect(told).toEqual(['a 10.0.0.1', 'c ENOTFOUND', 'e 10.0.0.5'])
})
