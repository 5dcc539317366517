// Numbers as the pages write them.
const NAMES: Record<string, string> = {
  loss: "loss",
  foreground_iou: "foreground IoU",
  background_iou: "background IoU",
  mean_iou: "mean IoU",
  dice: "Dice",
  learning_rate: "learning rate",
  embedding_std: "embedding spread",
  effective_rank: "effective rank",
  knn_accuracy: "kNN accuracy",
  cross_entropy: "cross-entropy",
  ab_error: "colour error (ab)",
};

export function quantityName(quantity: string): string {
  return NAMES[quantity] ?? quantity.replaceAll("_", " ").replace("iou", "IoU");
}

export function integerText(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** Three significant digits at least; ratios with three decimals. */
export function numberText(value: number | null, ratio = false): string {
  if (value === null) return "not finite";
  if (ratio) return value.toFixed(3);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  return value.toPrecision(4).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}
