'use strict';
// The unmodified Node device SDK as IoT Edge starts it: no connection string, only the workload API.
const assert = require('node:assert');
const { Inbox, SCENE, message, subscribed, test, within } = require('./kit');

for (const workload of ['unix', 'http']) {
  test(`a module from its environment by ${workload} sends, receives and calls`, ['mqtt', 'mqttws', 'amqp', 'amqpws'],
    async ({ clients, tag, transport }) => {
      const receiver = await clients.edgeModule('receiver', transport, workload);
      const box = new Inbox(receiver, tag);
      receiver.onMethod('echo', (request, response) => response.send(200, request.payload));
      await subscribed();
      const sender = await clients.edgeModule('sender', transport, workload);
      await within(sender.sendOutputEvent('out1', message('signed', tag)), 'it is acknowledged');
      assert.strictEqual((await box.next()).text, 'signed');
      const call = { methodName: 'echo', payload: { n: 7 }, connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 10 };
      const answer = await within(sender.invokeMethod(SCENE.edge, 'receiver', call), 'it is answered');
      assert.deepStrictEqual(answer, { status: 200, payload: { n: 7 } });
    });
}
