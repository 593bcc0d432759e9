// Opens a page in every way in which it is read, and tells what was wanted and what was found, a line each:
// WHAT, WANTED and FOUND, parted by a unit separator, since any may be empty. Arguments: the page, the browser, a fresh profile, a folder for pictures.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [file, browserPath, profile, pictures] = process.argv.slice(2);
const modules = path.join(process.cwd(), 'node_modules');
const entry = path.join(modules, 'puppeteer-core/lib/esm/puppeteer/puppeteer-core.js');
const puppeteer = (await import(pathToFileURL(entry))).default;
const axe = fs.readFileSync(path.join(modules, 'axe-core/axe.min.js'), 'utf8');

const tell = (what, wanted, found) => {
  const plain = (value) => String(value).replace(/\s+/g, ' ').slice(0, 600);
  console.log([what, wanted, found].map(plain).join('\u001f'));
};

const ways = [
  { name: 'light', scheme: 'light', width: 1200 },
  { name: 'dark', scheme: 'dark', width: 1200 },
  { name: 'narrow', scheme: 'light', width: 400 },
  { name: 'narrow dark', scheme: 'dark', width: 320 },
  { name: 'print', scheme: 'dark', width: 794, media: 'print' },
];

const browser = await puppeteer.launch({
  executablePath: browserPath,
  headless: true,
  userDataDir: profile,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
try {
  for (const way of ways) {
    await read(way);
  }
  await keyboard();
  await structure();
} finally {
  await browser.close();
}

// A tab with the page in it, and whatever it asked for or complained of.
async function open({ scheme = 'light', width = 1200, media = 'screen' }, withScripts) {
  const page = await browser.newPage();
  const seen = { requests: [], complaints: [] };
  page.on('request', (request) => seen.requests.push(request.url()));
  page.on('console', (message) => seen.complaints.push(message.text()));
  page.on('pageerror', (error) => seen.complaints.push(error.message));
  // axe is put into the page, whose policy would not let it run; what the page is without that is judged too.
  await page.setBypassCSP(withScripts);
  await page.setJavaScriptEnabled(withScripts);
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaType(media);
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.goto(pathToFileURL(file).href, { waitUntil: 'load' });
  return { page, seen };
}

async function read(way) {
  const bare = await open(way, false);
  tell(`${way.name}: it asks for nothing but itself`, 1, bare.seen.requests.length);
  tell(`${way.name}: its policy finds nothing to forbid`, '', bare.seen.complaints.join('; '));
  if (pictures) {
    const name = path.join(pictures, way.name.replace(' ', '-'));
    if (way.media === 'print') {
      await bare.page.pdf({ path: `${name}.pdf`, format: 'A4', printBackground: true });
    } else {
      await bare.page.screenshot({ path: `${name}.png`, fullPage: true });
    }
  }
  await bare.page.close();

  const { page } = await open(way, true);
  for (const opened of [false, true]) {
    const name = opened ? `${way.name}, tables open` : way.name;
    await page.evaluate((open) => document.querySelectorAll('details').forEach((one) => { one.open = open; }), opened);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    tell(`${name}: nothing is wider than the screen`, 0, wide);
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document));
    const grave = found.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes.map((node) => node.target.join(' ')).slice(0, 3).join(', ')}`);
    tell(`${name}: axe finds no fault`, '', grave.join('; '));
    const contrast = found.passes.find((one) => one.id === 'color-contrast');
    tell(`${name}: axe could judge the contrast`, 'yes', contrast && contrast.nodes.length > 20 ? 'yes' : 'no');
  }
  const clash = await page.evaluate(faintText);
  tell(`${way.name}: every text in a drawing has a contrast of 4.5`, '', clash.join('; '));
  const cut = await page.evaluate(cutText);
  tell(`${way.name}: no text in a drawing is cut or covers another`, '', cut.join('; '));
  await page.close();
}

// Texts in drawings, which axe leaves out, against the paper below them.
function faintText() {
  const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll('svg text')].filter((text) => {
    const ink = light(getComputedStyle(text).fill);
    const [high, low] = ink > paper ? [ink, paper] : [paper, ink];
    return (high + 0.05) / (low + 0.05) < 4.5;
  }).map((text) => text.textContent).slice(0, 5);
}

function cutText() {
  const found = [];
  for (const svg of document.querySelectorAll('figure svg')) {
    if (svg.ownerSVGElement) continue;
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')]
      .filter((text) => getComputedStyle(text).display !== 'none')
      .map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }));
    for (const { text, box } of boxes) {
      if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(`cut: ${text}`);
    }
    for (const [index, one] of boxes.entries()) {
      for (const other of boxes.slice(index + 1)) {
        const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
        const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
        if (across > 1 && down > 4) found.push(`${one.text} over ${other.text}`);
      }
    }
  }
  return found.slice(0, 5);
}

// Everything that can be worked is reached by the tab key, in the order of the page, and shows it.
async function keyboard() {
  const { page } = await open({}, true);
  const wanted = await page.evaluate(() => document.querySelectorAll('a[href], summary').length);
  const reached = new Set();
  let unseen = 0;
  let places = [];
  for (let step = 0; step < wanted * 3 + 20; step += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const all = [...document.querySelectorAll('*')];
      return {
        index: all.indexOf(element),
        works: element.matches('a[href], summary'),
        outline: getComputedStyle(element).outlineStyle,
      };
    });
    if (!at || reached.has(at.index)) break;
    reached.add(at.index);
    places.push(at);
    if (at.outline === 'none') unseen += 1;
  }
  tell('keyboard: all that can be worked is reached', wanted, places.filter((one) => one.works).length);
  tell('keyboard: what is reached is marked', 0, unseen);
  tell('keyboard: in the order of the page', 'yes',
    places.every((one, index) => index === 0 || one.index > places[index - 1].index) ? 'yes' : 'no');
  await page.close();
}

async function structure() {
  const { page } = await open({}, true);
  const found = await page.evaluate(() => {
    const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map((one) => Number(one.tagName[1]));
    const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
    const charts = [...document.querySelectorAll('.chart')];
    const figures = charts.filter((one) => one.querySelector('figure'));
    // Within the figure, or next to it.
    const hasTable = (one) => one.querySelector('details table td, details table th[scope=row]')
      || one.nextElementSibling?.querySelector(':scope > table td');
    return {
      scripts: document.querySelectorAll('script, link, iframe, object, embed, img').length,
      headings: levels[0] === 1 && levels.every((level, index) => index === 0 || level <= levels[index - 1] + 1),
      twice: ids.filter((id, index) => ids.indexOf(id) !== index).join(' '),
      figures: figures.length,
      tables: figures.filter(hasTable).length,
      told: figures.filter((one) => one.querySelector('figcaption p')?.textContent.trim().length > 10).length,
    };
  });
  tell('it holds no script and no reference', 0, found.scripts);
  tell('its headings are in order', true, found.headings);
  tell('no id is there twice', '', found.twice);
  tell('it has charts', 'yes', found.figures > 0 ? 'yes' : 'no');
  tell('every chart has its table', found.figures, found.tables);
  tell('every chart is told in a sentence', found.figures, found.told);

  // Figures are text: what is copied from a table is what stands in it.
  const copied = await page.evaluate(() => {
    document.querySelectorAll('details').forEach((one) => { one.open = true; });
    const cell = document.querySelector('td.number');
    if (!cell) return null;
    getSelection().selectAllChildren(cell);
    return { text: getSelection().toString(), cell: cell.textContent };
  });
  tell('a figure copies as it stands', copied?.cell, copied?.text);
  await page.close();
}
