import { decode } from "gpt-tokenizer/encoding/cl100k_base";
import { describe, expect, it } from "vitest";
import { Corpus } from "../src/text/corpus.js";
import { answerText, DRAWN, makeRequests, passage } from "../src/text/requests.js";

const corpus = new Corpus();

describe("Corpus", () => {
  it("has the book's chapters, whose sentences make up the text", () => {
    expect(corpus.length).toBe(135);
    const { title, sentences } = corpus.chapter(0);
    expect(title).toBe("1. Loomings");
    expect(sentences[0]).toBe("Call me Ishmael. ");
    expect(sentences.length).toBeGreaterThan(50);
  });
});

describe("passage", () => {
  it("takes whole sentences", () => {
    const tokens = passage(["Call me Ishmael. ", "Some years ago.\n", "Never mind."], 0, 8, 100);
    expect(decode([...tokens])).toBe("Call me Ishmael. Some years ago.");
  });

  it("ends with the chapter, and at the limit", () => {
    expect(decode([...passage(["One. ", "Two. "], 1, 50, 100)])).toBe("Two.");
    expect(passage(corpus.chapter(0).sentences, 0, 40, 30)).toHaveLength(30);
  });
});

describe("makeRequests", () => {
  const requests = makeRequests(40, 3, 7, corpus);

  it("gives the same requests for a seed, others for another", () => {
    expect(makeRequests(40, 3, 7, corpus)).toEqual(requests);
    expect(makeRequests(40, 3, 8, corpus)).not.toEqual(requests);
  });

  it("draws within bounds, in order of arrival, from text", () => {
    let arrival = 0;
    for (const [id, request] of requests.entries()) {
      expect(request.id).toBe(id);
      expect(request.rank).toBe(id % 3);
      expect(request.arrivalStep).toBeGreaterThanOrEqual(arrival);
      arrival = request.arrivalStep;
      expect(request.prompt.length).toBeGreaterThan(0);
      expect(request.prompt.length).toBeLessThanOrEqual(DRAWN.promptTokens[1]);
      expect(request.answerTokens).toBeGreaterThanOrEqual(DRAWN.answerTokens[0]);
      expect(request.answerTokens).toBeLessThanOrEqual(DRAWN.answerTokens[1]);
      expect([...request.vocabulary]).toEqual([...new Set(request.vocabulary)].sort((a, b) => a - b));
      for (const token of request.prompt) expect(request.vocabulary).toContain(token);
    }
    expect(requests[0]!.arrivalStep).toBe(0);
    expect(new Set(requests.map((r) => r.prompt.length)).size).toBeGreaterThan(20);
    expect(new Set(requests.map((r) => r.answerTokens)).size).toBeGreaterThan(10);
  });
});

describe("answerText", () => {
  it("puts an answer on one line", () => {
    expect(answerText(passage(["The whale.\n\nThe \u0007 ship. "], 0, 50, 50))).toBe("The whale. The ship.");
  });
});
