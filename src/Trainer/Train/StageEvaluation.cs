using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// What a stage measures while it trains: the held-out loss, and pass@1. Every rank calls both; rank 0 alone knows what the log holds and writes.
/// The held-out loss is dealt out over the ranks and uses the same gathering of weights as training. pass@1 is rank 0's, on whole weights
/// that all ranks gather for it, while the others wait.
/// </summary>
/// <typeparam name="T">storage of the model</typeparam>
internal sealed class StageEvaluation<T>(
    TrainContext context, StageTasks tasks, string directory, PromptCodec codec, Optimizer<T> optimizer, Qwen2<T> model, Activations<T> activations,
    IReadOnlyList<TokenizedSample> held, MetricsLog log, TrainView view)
    where T : unmanaged
{
    private const int PollMilliseconds = 100;

    private readonly ICollective _world = optimizer.Parallelism.World;

    /// <summary>Mean loss over the held-out loss tokens, nats, the same bits for any number of ranks; nothing where nothing is held out or an
    /// earlier process measured it.</summary>
    /// <exception cref="OperationCanceledException">a rank was asked to stop; on every rank</exception>
    public void Loss(long step)
    {
        if (held.Count == 0 || AnyRank(_world.Rank == 0 && log.Has("eval_loss", step)))
        {
            return;
        }

        var segments = Math.Min(activations.Tokens, held.Count);
        var packer = new StepPacker(activations.Tokens, segments, held.Count);
        var batch = new PackedBatch(activations.Tokens, segments);
        var losses = new double[packer.Pack(held, Enumerable.Range(0, held.Count).ToArray())];
        for (var first = 0; first < losses.Length; first += _world.Size)
        {
            ThrowIfStopped();
            var mine = first + _world.Rank;
            if (mine >= losses.Length)
            {
                model.ForwardIdle(context.Stream);
                continue;
            }

            packer.Fill(mine, batch);
            batch.Pad(Matmul.RoundRows(batch.TokenCount));
            losses[mine] = model.Loss(context.Stream, activations, batch);
        }

        _world.AllReduce(losses, Reduction.Sum);             // each is one rank's, the others say 0
        var (sum, tokens) = (losses.Sum(), held.Sum(s => (long)s.LossTokens));
        if (_world.Rank == 0)
        {
            log.EvalLoss(step, sum / tokens, tokens);
            view.Note($"step {step} held-out loss {sum / tokens:F4} over {tokens:N0} tokens");
        }
    }

    /// <summary>pass@1 on the recipe's tasks; nothing where there are none or an earlier process measured it.</summary>
    /// <exception cref="OperationCanceledException">a rank was asked to stop; on every rank</exception>
    /// <exception cref="EvaluationException">rank 0 could not measure it; on every rank</exception>
    public void PassAt1(long step)
    {
        if (tasks.All.Count == 0 || AnyRank(_world.Rank == 0 && log.Has("pass_at_1", step)))
        {
            return;
        }

        var whole = optimizer.GatherWhole(context.Stream);
        try
        {
            using var given = new CancellationTokenSource();
            var measuring = _world.Rank == 0 ? Task.Run(() => Measure(whole, step, given.Token)) : Task.CompletedTask;
            WaitForFirstRank(measuring, given);
            if (AnyRank(measuring.IsFaulted))
            {
                throw new EvaluationException(measuring.Exception?.InnerException);
            }
        }
        finally
        {
            optimizer.ReleaseWhole(whole);
        }
    }

    private void Measure(ParameterSet<T> whole, long step, CancellationToken stop)
    {
        var summary = Train.PassAt1.Measure(
            context.Stream, new Qwen2<T>(whole), codec, tasks.All, tasks.MaxNewTokens, tasks.Sandbox, Path.Combine(directory, RunFiles.Answers), stop);
        log.PassAt1(step, summary.PassAt1, tasks.All.Count, summary.Kinds.Select(k => (k.Kind, k.PassAt1)));
        view.Note($"step {step} pass@1 {summary.PassAt1:P1} [{summary.Interval.Low:P0}, {summary.Interval.High:P0}] on {tasks.All.Count} tasks");
    }

    /// <summary>Ranks agree every moment whether rank 0 has finished or one was asked to stop: a single wait of minutes would look like a dead rank.</summary>
    private void WaitForFirstRank(Task measuring, CancellationTokenSource given)
    {
        while (AnyRank(!measuring.IsCompleted))
        {
            if (AnyRank(context.Stop.Token.IsCancellationRequested))
            {
                given.Cancel();
                Task.WaitAny(measuring);
                throw new OperationCanceledException("an evaluation was given up");
            }

            Task.WaitAny([measuring], PollMilliseconds);
        }
    }

    private void ThrowIfStopped()
    {
        if (AnyRank(context.Stop.Token.IsCancellationRequested))
        {
            throw new OperationCanceledException("an evaluation was given up");
        }
    }

    private bool AnyRank(bool mine)
    {
        Span<double> agreed = [mine ? 1 : 0];
        _world.AllReduce(agreed, Reduction.Max);
        return agreed[0] > 0;
    }
}
