import path from 'node:path'
import { expect, it } from 'vitest'
import manifest from '../package.json' with { type: 'json' }

const root = path.join(import.meta.dirname, '..')
const entries = Object.entries(manifest.exports).flatMap(([subpath, target]) =>
  typeof target === 'string' ? [] : [[subpath, target.default] as const],
)

// What is public changes on purpose only: run vitest with -u and let the difference be reviewed.
it.each(entries)('exports of %s are the ones written down', async (subpath, file) => {
  const source = file.replace('./dist/', 'src/').replace(/\.js$/, '.ts')
  const names = Object.keys(await import(path.join(root, source))).sort()
  const list = subpath === '.' ? 'index' : subpath.slice(2).replaceAll('/', '-')
  await expect(`${names.join('\n')}\n`).toMatchFileSnapshot(`exports/${list}.txt`)
})

it('says the same under its second name', async () => {
  const own = await import('@k-msg/webhook')
  const alias = await import('@k-msg/webhook-system')
  expect(Object.keys(alias)).toEqual(Object.keys(own))
  for (const [name, value] of Object.entries(own)) {
    expect(alias[name as keyof typeof alias]).toBe(value)
  }
})
