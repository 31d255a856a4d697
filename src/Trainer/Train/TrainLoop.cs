using System.Diagnostics;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>One optimizer step, in order, and nothing else. Allocates no managed memory once warm.</summary>
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
    private long _step, _applied;
    private int _skips;

    /// <summary>A loop that goes on after <paramref name="progress"/>.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="optimizer">weights, gradients and moments, allocated</param>
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
        _model = new Qwen2<T>(optimizer.Weights);
        var segments = Math.Min(activations.Tokens, recipe.BatchSamples);
        _packer = new StepPacker(activations.Tokens, segments, recipe.BatchSamples);
        _batch = new PackedBatch(activations.Tokens, segments);
        _schedule = new LearningRateSchedule(recipe.Schedule, recipe.LearningRate, recipe.MinimumLearningRate, recipe.WarmupSteps, totalSteps);
        _guard = new SpikeGuard(guard.SpikeZ, guard.Window);
        _guard.Restore(progress.Losses, progress.Norms);
        (_step, _applied, _skips) = (progress.Step, progress.Applied, progress.SkipsInARow);
    }

    /// <summary>What a checkpoint must keep of this loop.</summary>
    public TrainProgress Progress
    {
        get
        {
            var (losses, norms) = _guard.Save();
            return new TrainProgress(_step, _applied, _skips, losses, norms);
        }
    }

    /// <summary>The model being trained, over the optimizer's compute weights.</summary>
    public Qwen2<T> Model => _model;

    /// <summary>
    /// Runs the next step: pack, forward and backward each micro-batch, judge, clip, AdamW. A request to stop is seen between micro-batches;
    /// the step is then given up, its gradients are discarded and null is returned: nothing has changed.
    /// </summary>
    /// <exception cref="BadStepException">the recipe says to stop on a bad step, or too many came in a row</exception>
    public StepMetrics? Step(CancellationToken stop)
    {
        var start = Stopwatch.GetTimestamp();
        var ids = _plan.SamplesOf(_step);
        var count = _recipe.MicroBatchSamples > 0 ? _packer.Group(_samples, ids, _recipe.MicroBatchSamples) : _packer.Pack(_samples, ids);
        var lossTokens = 0;
        foreach (var id in ids)
        {
            lossTokens += _samples[id].LossTokens;
        }

        var tokens = 0;
        double flops = 0;
        Zero.Fill(_stream, _activations.LossSum);
        for (var i = 0; i < count; i++)
        {
            if (stop.IsCancellationRequested)
            {
                return null;
            }

            _packer.Fill(i, _batch);
            tokens += _batch.TokenCount;
            flops += TrainFlops.Of(_model.Config, _batch.TokenCount, _batch.LossTokens, _batch.SumOfSquaredLengths);
            _batch.Pad(Matmul.RoundRows(_batch.TokenCount));
            var scale = _recipe.MicroBatchMean ? 1.0 / ((double)Math.Max(1, _batch.LossTokens) * count) : 1.0 / lossTokens;
            _model.ForwardBackward(_stream, _activations, _batch, _optimizer.Gradients, (float)scale, accumulate: i > 0);
        }

        using var range = StreamRange.Of(_stream, "optimizer");
        var loss = _activations.ReadLossSum(_stream);
        var norm = _optimizer.GradientNorm(_stream);
        var fault = _guard.Judge(loss, norm);
        var rate = _schedule.At(_step);
        if (fault is null)
        {
            var clip = _recipe.Clip > 0 ? GlobalNorm.ClipScale(norm, _recipe.Clip) : 1;
            _optimizer.Step(_stream, ++_applied, rate, clip);
            _skips = 0;
        }
        else
        {
            _skips++;
        }

        _step++;
        var metrics = new StepMetrics(
            _step, _step / _plan.StepsPerEpoch, loss, norm, rate, ids.Length, tokens, lossTokens, count,
            Stopwatch.GetElapsedTime(start).TotalSeconds, flops, fault);
        if (fault is not null && (!_guardRecipe.Skip || _skips > _guardRecipe.MaxSkips))
        {
            throw new BadStepException(metrics, ids.ToArray());
        }

        return metrics;
    }

    /// <summary>Data-set indices of the samples of a step, for the log of a bad one.</summary>
    public int[] SamplesOf(long step) => _plan.SamplesOf(step - 1).ToArray();
}
