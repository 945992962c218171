import 'reflect-metadata'
import { randomUUID } from 'node:crypto'
import { WebhookService } from '@k-msg/webhook'
import { createReceiver, seenInMemory } from '@k-msg/webhook/receiver'
import { expressHandler } from '@k-msg/webhook/receiver/express'
import {
  Body,
  Controller,
  Get,
  HttpCode,
  Injectable,
  Module,
  type OnApplicationShutdown,
  type OnModuleInit,
  Param,
  Post,
} from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'

const port = Number(process.env.PORT ?? 3000)
const secret = process.env.WEBHOOK_SECRET

@Injectable()
class Webhooks extends WebhookService implements OnModuleInit, OnApplicationShutdown {
  constructor() {
    super({ retryScheduleMs: 'standard', allowedNetworks: ['127.0.0.0/8'] })
  }

  async onModuleInit() {
    // At every start: what is registered already is only updated.
    await this.registerEndpoint({
      id: 'own-receiver',
      url: `http://127.0.0.1:${port}/webhooks`,
      events: ['message.*'],
      secret,
    })
  }

  onApplicationShutdown() {
    return this.close()
  }
}

@Controller('messages')
class MessagesController {
  constructor(private readonly webhooks: Webhooks) {}

  @Post()
  @HttpCode(202)
  async send(@Body() message: { text: string }) {
    const id = randomUUID()
    // Your work goes here. Answer when the event is on disk: it is delivered whatever happens next.
    await this.webhooks.dispatchEvent({
      id,
      type: 'message.delivered',
      timestamp: new Date(),
      data: message,
    })
    return { id }
  }

  @Get(':id')
  where(@Param('id') id: string) {
    return this.webhooks.explainEvent(id)
  }
}

@Module({ controllers: [MessagesController], providers: [Webhooks] })
class AppModule {}

const receiver = createReceiver({ secret, seen: seenInMemory() })
  .on('message.delivered', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })
  .on('message.failed', (event) => {
    console.log('handled', event.type, event.id, JSON.stringify(event.data))
  })

async function start() {
  const app = await NestFactory.create<NestExpressApplication>(AppModule, {
    logger: ['error', 'warn'],
  })
  app.use('/webhooks', expressHandler(receiver)) // before listen(): Nest's parser comes after it
  app.enableShutdownHooks() // SIGTERM ends in close()
  await app.listen(port, '127.0.0.1')
  console.log(`listening on http://127.0.0.1:${port}/webhooks`)
}

start().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
