"""Scrapy over the same site, bare: `scrapy_client.py PORT`, in an environment that has it.

No robots.txt, no archive, no refusals: links are followed and counted. Prints one JSON object.
"""

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.linkextractors import LinkExtractor

SETTINGS = {
    "ROBOTSTXT_OBEY": False, "LOG_ENABLED": False, "TELNETCONSOLE_ENABLED": False,
    "COOKIES_ENABLED": False, "RETRY_ENABLED": False, "CONCURRENT_REQUESTS": 16,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 16, "DOWNLOAD_DELAY": 0, "HTTPERROR_ALLOW_ALL": True,
}
seen = {"pages": 0, "bytes": 0}


class Bare(scrapy.Spider):
    """Follows every link of the host."""

    name = "bare"

    def __init__(self, port: str) -> None:
        super().__init__()
        self.start_urls = [f"http://127.0.0.1:{port}/"]
        self.links = LinkExtractor(allow=rf"^http://127\.0\.0\.1:{port}/")

    def parse(self, response: Any) -> Iterator[Any]:
        """Count a page and follow its links."""
        seen["pages"] += 1
        seen["bytes"] += len(response.body)
        if isinstance(response, scrapy.http.HtmlResponse):
            for link in self.links.extract_links(response):
                yield scrapy.Request(link.url)


def cpu() -> float:
    """Seconds of this process."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    process = CrawlerProcess(SETTINGS)
    before = cpu()
    process.crawl(Bare, port=sys.argv[1])
    process.start()
    print(json.dumps({**seen, "cpu_s": cpu() - before}))
