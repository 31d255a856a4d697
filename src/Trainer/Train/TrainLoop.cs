using System.Diagnostics;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// One optimizer step, in order, and nothing else. Allocates no managed memory once warm. Every rank runs it on the same samples and plan:
/// micro-batch i of a step is rank (i mod N)'s, so that N of them make a round, and a rank without one in the last round takes part in the
/// traffic only.
/// </summary>
/// <typeparam name="T">storage of weights and activations</typeparam>
public sealed class TrainLoop<T>
    where T : unmanaged
{
    private readonly ComputeStream _stream;
    private readonly Qwen2<T> _model;
    private readonly Activations<T> _activations;
    private readonly Optimizer<T> _optimizer;
    private readonly IReadOnlyList<TokenizedSample> _samples;
    private readonly StepPlan _plan;
    private readonly StepPacker _packer;
    private readonly PackedBatch _batch;
    private readonly OptimizeRecipe _recipe;
    private readonly GuardRecipe _guardRecipe;
    private readonly LearningRateSchedule _schedule;
    private readonly SpikeGuard _guard;
    private readonly double[] _losses, _agreed = new double[1];
    private readonly DataFingerprint? _data;
    private long _step, _applied;
    private int _skips;

    /// <summary>A loop that goes on after <paramref name="progress"/>.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="optimizer">weights, gradients and moments, allocated; its parallelism says which rank this is</param>
    /// <param name="activations">declared for training, allocated</param>
    /// <param name="samples">the training samples</param>
    /// <param name="plan">which samples each step takes</param>
    /// <param name="totalSteps">steps of the stage: the schedule's length</param>
    /// <param name="recipe">batch, loss rule, schedule, clip</param>
    /// <param name="guard">what happens on a bad step</param>
    /// <param name="progress">where to go on</param>
    public TrainLoop(
        ComputeStream stream, Optimizer<T> optimizer, Activations<T> activations, IReadOnlyList<TokenizedSample> samples, StepPlan plan, long totalSteps,
        OptimizeRecipe recipe, GuardRecipe guard, TrainProgress progress)
    {
        (_stream, _optimizer, _activations, _samples, _plan, _recipe, _guardRecipe) = (stream, optimizer, activations, samples, plan, recipe, guard);
        _model = new Qwen2<T>(optimizer.Weights, optimizer.Traffic);
        var segments = Math.Min(activations.Tokens, recipe.BatchSamples);
        _packer = new StepPacker(activations.Tokens, segments, recipe.BatchSamples);
        _batch = new PackedBatch(activations.Tokens, segments);
        _schedule = new LearningRateSchedule(recipe.Schedule, recipe.LearningRate, recipe.MinimumLearningRate, recipe.WarmupSteps, totalSteps);
        _losses = new double[optimizer.Parallelism.Recipe.Ordered ? recipe.BatchSamples : 1];
        _guard = new SpikeGuard(guard.SpikeZ, guard.Window);
        _guard.Restore(progress.Losses, progress.Norms);
        (_step, _applied, _skips, _data) = (progress.Step, progress.Applied, progress.SkipsInARow, progress.Data);
    }

    /// <summary>What a checkpoint must keep of this loop.</summary>
    public TrainProgress Progress
    {
        get
        {
            var (losses, norms) = _guard.Save();
            return new TrainProgress(_step, _applied, _skips, losses, norms, _data);
        }
    }

    /// <summary>The model being trained, over the optimizer's compute weights.</summary>
    public Qwen2<T> Model => _model;

    /// <summary>
    /// Runs the next step: pack, forward and backward each micro-batch, reduce, judge, clip, AdamW. A request to stop, to any rank, is seen
    /// between rounds of micro-batches; the step is then given up by all, its gradients are discarded and null is returned: nothing has changed.
    /// </summary>
    /// <exception cref="BadStepException">the recipe says to stop on a bad step, or too many came in a row; on every rank</exception>
    /// <exception cref="CollectiveException">another rank died or came out of step</exception>
    public StepMetrics? Step(CancellationToken stop)
    {
        var start = Stopwatch.GetTimestamp();
        var ids = _plan.SamplesOf(_step);
        var count = _recipe.MicroBatchSamples > 0 ? _packer.Group(_samples, ids, _recipe.MicroBatchSamples) : _packer.Pack(_samples, ids);
        var (tokens, lossTokens, squares) = (0, 0, 0L);
        foreach (var id in ids)
        {
            var length = _samples[id].Length;
            (tokens, lossTokens, squares) = (tokens + length, lossTokens + _samples[id].LossTokens, squares + ((long)length * length));
        }

        var parallelism = _optimizer.Parallelism;
        Array.Clear(_losses);
        Zero.Fill(_stream, _activations.LossSum);
        for (var first = 0; first < count; first += parallelism.Size)
        {
            if (AnyRank(stop.IsCancellationRequested))
            {
                _optimizer.Abandon(_stream);
                return null;
            }

            var present = Math.Min(parallelism.Size, count - first);
            var accumulate = _optimizer.BeginRound(first / parallelism.Size, present);
            if (parallelism.Rank < present)
            {
                MicroBatch(first + parallelism.Rank, count, lossTokens, accumulate);
            }
            else
            {
                _model.PassIdle(_stream);
            }
        }

        using var range = StreamRange.Of(_stream, "optimizer");
        _optimizer.Reduce(_stream);
        var loss = Loss(count);
        var norm = _optimizer.GradientNorm(_stream);
        var fault = _guard.Judge(loss, norm);
        if (AnyRank(fault is not null))
        {
            fault ??= "another rank judged it bad";
        }

        var rate = _schedule.At(_step);
        if (fault is null)
        {
            var clip = _recipe.Clip > 0 ? GlobalNorm.ClipScale(norm, _recipe.Clip) : 1;
            _optimizer.Step(_stream, ++_applied, rate, clip);
        }

        var metrics = new StepMetrics(
            _step + 1, (_step + 1) / _plan.StepsPerEpoch, loss, norm, rate, ids.Length, tokens, lossTokens, count,
            Stopwatch.GetElapsedTime(start).TotalSeconds, TrainFlops.Of(_model.Config, tokens, lossTokens, squares), fault);
        if (fault is not null && (!_guardRecipe.Skip || _skips >= _guardRecipe.MaxSkips))
        {
            throw new BadStepException(metrics, ids.ToArray());        // progress, weights and moments are those of the step before
        }

        _skips = fault is null ? 0 : _skips + 1;
        _step++;
        return metrics;
    }

    /// <summary>Data-set indices of the samples of a step, for the log of a bad one.</summary>
    public int[] SamplesOf(long step) => _plan.SamplesOf(step - 1).ToArray();

    private void MicroBatch(int i, int count, int lossTokens, bool accumulate)
    {
        _packer.Fill(i, _batch);
        _batch.Pad(Matmul.RoundRows(_batch.TokenCount));
        var scale = _recipe.MicroBatchMean ? 1.0 / ((double)Math.Max(1, _batch.LossTokens) * count) : 1.0 / lossTokens;
        _model.ForwardBackward(_stream, _activations, _batch, _optimizer.Gradients, (float)scale, accumulate);
        if (_optimizer.Parallelism.Recipe.Ordered)
        {
            _losses[i] = _activations.ReadLossSum(_stream);
            Zero.Fill(_stream, _activations.LossSum);
        }
    }

    /// <summary>The step's loss, the same bits on every rank: each rank's sum, added in rank order; or, ordered, each micro-batch's in their order.</summary>
    private double Loss(int count)
    {
        var world = _optimizer.Parallelism.World;
        if (!_optimizer.Parallelism.Recipe.Ordered)
        {
            _losses[0] = _activations.ReadLossSum(_stream);
            world.AllReduce(_losses, Reduction.Sum);
            return _losses[0];
        }

        world.AllReduce(_losses.AsSpan(0, count), Reduction.Sum);       // each is one rank's, the others say 0
        var sum = 0.0;
        foreach (var loss in _losses.AsSpan(0, count))
        {
            sum += loss;
        }

        return sum;
    }

    private bool AnyRank(bool mine)
    {
        _agreed[0] = mine ? 1 : 0;
        _optimizer.Parallelism.World.AllReduce(_agreed, Reduction.Max);
        return _agreed[0] > 0;
    }
}
