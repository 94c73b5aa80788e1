-- What a webhook became, for when it is looked at again. Numbers grow, so its pages are written in order.
CREATE INDEX event_webhook ON event (webhook);
