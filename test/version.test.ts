import { expect, it } from 'vitest'
import alias from '../aliases/webhook-system/package.json' with { type: 'json' }
import manifest from '../package.json' with { type: 'json' }
import { packageVersion } from '../src/model/version.ts'

it('is the same in the package, its second name and its User-Agent', () => {
  expect([alias.version, packageVersion]).toEqual([manifest.version, manifest.version])
})
