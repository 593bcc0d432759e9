// Signs in at the provider's own pages in a headless browser. Arguments: the address, the browser.
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const entry = path.join(process.cwd(), 'node_modules/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js');
const puppeteer = (await import(pathToFileURL(entry))).default;
const browser = await puppeteer.launch({
  executablePath: process.argv[3],
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--no-proxy-server', '--disable-dev-shm-usage'],
});
try {
  const page = await browser.newPage();
  await page.goto(process.argv[2], { waitUntil: 'load' });
  await page.type('input[name=login]', 'ada');
  await page.type('input[name=password]', 'anything');
  await Promise.all([page.waitForNavigation(), page.click('button[type=submit]')]);
  // The consent page, then the redirect to the client.
  await Promise.all([page.waitForNavigation(), page.click('button[type=submit]')]);
  console.log(await page.evaluate(() => document.body.innerText));
} finally {
  await browser.close();
}
