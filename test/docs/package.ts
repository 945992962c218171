// What documents import under the package's name: the package, whose services are closed when the
// document is through. Types are checked against the package itself.
import { WebhookService as Service } from '../../src/index.ts'
import { closeLater } from './local.ts'

export * from '../../src/index.ts'

export class WebhookService extends Service {
  constructor(...parameters: ConstructorParameters<typeof Service>) {
    super(...parameters)
    closeLater(this)
  }
}
