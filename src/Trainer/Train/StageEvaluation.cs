using Z1Coder.Kernels;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>What a stage measures while it trains: the held-out loss, and pass@1 with the weights in place.</summary>
/// <typeparam name="T">storage of the model</typeparam>
internal sealed class StageEvaluation<T>(
    TrainContext context, EvalRecipe recipe, string directory, PromptCodec codec, Qwen2<T> model, Activations<T> activations,
    IReadOnlyList<TokenizedSample> held, MetricsLog log, TrainView view)
    where T : unmanaged
{
    private readonly IReadOnlyList<HumanEvalTask> _tasks = recipe.Tasks is null ? [] : HumanEvalTask.Read(recipe.Tasks);
    private Sandbox? _sandbox;

    /// <summary>Mean loss over the held-out loss tokens, nats; nothing where nothing is held out or an earlier process measured it.</summary>
    public void Loss(long step)
    {
        if (held.Count == 0 || log.Has("eval_loss", step))
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
            context.Stop.Token.ThrowIfCancellationRequested();
            packer.Fill(i, batch);
            batch.Pad(Matmul.RoundRows(batch.TokenCount));
            sum += model.Loss(context.Stream, activations, batch);
            tokens += batch.LossTokens;
        }

        log.EvalLoss(step, sum / tokens, tokens);
        view.Note($"step {step} held-out loss {sum / tokens:F4} over {tokens:N0} tokens");
    }

    /// <summary>pass@1 on the recipe's tasks; nothing where there are none or an earlier process measured it.</summary>
    public void PassAt1(long step)
    {
        if (_tasks.Count == 0 || log.Has("pass_at_1", step))
        {
            return;
        }

        _sandbox ??= Sandbox.Create();
        var summary = Train.PassAt1.Measure(
            context.Stream, model, codec, _tasks, recipe.MaxNewTokens, _sandbox, Path.Combine(directory, RunFiles.Answers),
            context.Stop.Token);
        log.PassAt1(step, summary.PassAt1, _tasks.Count, summary.Kinds.Select(k => (k.Kind, k.PassAt1)));
        view.Note($"step {step} pass@1 {summary.PassAt1:P1} [{summary.Interval.Low:P0}, {summary.Interval.High:P0}] on {_tasks.Count} tasks");
    }
}
