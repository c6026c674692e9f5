"""Parts that tests play with: peers, lines, factories of CT series and of ledgers."""
