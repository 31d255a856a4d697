using System.Runtime.ExceptionServices;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>One stage of a run in its own directory: data, weights, resume, the loop with its evaluations and checkpoints, export.</summary>
/// <typeparam name="T">storage of weights and activations</typeparam>
internal sealed class TrainStage<T>(TrainContext context, StageRecipe recipe, string directory)
    where T : unmanaged
{
    private readonly PromptCodec _codec = PromptCodec.Load(context.TokenizerDirectory, recipe.Data.Format);

    /// <summary>Trains from <paramref name="source"/> (null: random weights under the recipe's shapes) to the end, or until a stop is asked for.</summary>
    /// <returns>false when stopped by a signal; the state is then saved</returns>
    public bool Run(string? source)
    {
        if (LoadData() is { } dataset)
        {
            return Train(source, dataset);
        }

        context.Output.WriteLine($"{recipe.Name} stopped by {context.Stop.Name} while reading its data; continue with --resume");
        return false;
    }

    private bool Train(string? source, SftDataset dataset)
    {
        var config = Config(source);
        CheckFits(config, dataset);
        var tasks = StageTasks.Open(recipe.Eval, context.Ranks.IsFirst);

        var plan = new StepPlan(dataset.Train.Count, recipe.Train.BatchSamples, (ulong)context.Recipe.Seed, recipe.Train.LastStep);
        var totalSteps = plan.Steps(recipe.Train.Epochs);
        totalSteps = recipe.Train.MaxSteps > 0 ? Math.Min(totalSteps, recipe.Train.MaxSteps) : totalSteps;

        using var parallelism = new Parallelism(context.Ranks.Collective, recipe.Parallel, context.Ranks.Environment.LocalSize);
        using var optimizer = new Optimizer<T>(new Qwen2Parameters(config), recipe.Train.AdamW, recipe.Train.DecayAll, parallelism, context.Stream);
        using var activations = new Activations<T>(
            config, recipe.Train.MicroBatchTokens, recipe.Train.HeadRows, recipe.Train.Recompute, context.Stream, training: true, recipe.Train.Fp8);
        DeviceMemory.Expect(context.Stream, optimizer.Arenas.Append(activations.Arena), recipe.Name);
        optimizer.Allocate();
        activations.Allocate();
        if (recipe.Parallel.OffloadOptimizer && context.Stream is CpuStream)
        {
            context.Output.WriteLine($"{recipe.Name}: parallel.offload optimizer saves nothing on a CPU, whose memory is the host's; it costs copies");
        }

        var store = new CheckpointStore(Path.Combine(directory, RunFiles.Checkpoints), recipe.Checkpoint.Keep, context.Report);
        using var writer = TrainCheckpoint.Writer(store, optimizer, context.Stream, recipe.Checkpoint.Async);
        writer.Allocate();
        context.Ranks.OnFirst(store.RemoveLeftovers);
        var data = DataFingerprint.Of(dataset, totalSteps);
        var progress = Restore(store, writer, optimizer, source, data);
        if (context.Ranks.IsFirst)
        {
            DataReportJson.Write(Path.Combine(directory, RunFiles.Data), dataset.Report);      // not before all checks are over
            context.Record();
        }

        var view = new TrainView(recipe.Name, totalSteps, context.Output);
        using var log = context.Ranks.IsFirst ? new MetricsLog(directory, progress.Step) : MetricsLog.None();
        var loop = new TrainLoop<T>(
            context.Stream, optimizer, activations, dataset.Train, plan, totalSteps, recipe.Train, recipe.Guard, progress);
        var evaluation = new StageEvaluation<T>(context, tasks, directory, _codec, optimizer, loop.Model, activations, dataset.Eval, log, view);
        return view.Show(() =>
        {
            try
            {
                Evaluate(evaluation, loop.Progress.Step, totalSteps);      // before the first step, or what an interruption left out
                using var profiler = context.ProfilePath is { } path ? new StepProfiler(path, context.Stream) : null;
                while (loop.Progress.Step < totalSteps)
                {
                    profiler?.Begin();
                    if (!Advance(loop, dataset.Train, log, view, writer))
                    {
                        return Stopped(store, writer, loop, view);
                    }

                    profiler?.End();
                    Saved(writer.Poll(), view);
                    Periodic(writer, loop, evaluation, view, totalSteps);
                }

                Save(writer, loop, view);
                Saved(writer.Complete(), view);                            // before anything that may fail: the steps are done
                evaluation.Loss(totalSteps);
                evaluation.PassAt1(totalSteps);
            }
            catch (OperationCanceledException)
            {
                return Stopped(store, writer, loop, view);                 // an evaluation was given up; the weights are those of the step
            }
            catch (EvaluationException e)
            {
                Saved(writer.Complete(), view);                            // all ranks are here: what is under way is still worth keeping
                view.Note($"{e.Message} after step {loop.Progress.Step}; mend that and continue with --resume, or without it: --set eval.tasks=");
                context.Ranks.OnFirst(() => ExceptionDispatchInfo.Throw(e.InnerException!));
                throw;
            }
            catch (Exception) when (context.Ranks.Size == 1 && writer.IsPending)
            {
                Saved(writer.Complete(), view);                            // whatever it was: no other rank has to know
                throw;
            }

            Export(optimizer);
            view.Note($"{Path.Combine(directory, RunFiles.Model)} holds the model");
            return true;
        });
    }

    private bool Stopped(CheckpointStore store, CheckpointWriter writer, TrainLoop<T> loop, TrainView view)
    {
        Save(writer, loop, view);
        Saved(writer.Complete(), view);
        view.Note($"stopped by {context.Stop.Name}; {store.Directory} holds step {loop.Progress.Step}; continue with --resume");
        return false;
    }

    private bool Advance(TrainLoop<T> loop, IReadOnlyList<TokenizedSample> samples, MetricsLog log, TrainView view, CheckpointWriter writer)
    {
        try
        {
            if (loop.Step(context.Stop.Token) is not { } metrics)
            {
                return false;
            }

            var mfu = context.Peak.Share(metrics.Flops, metrics.Seconds);
            log.Step(metrics, mfu);
            view.Step(metrics, mfu);
            if (metrics.Fault is not null)
            {
                view.Note($"step {metrics.Step} skipped: {metrics.Fault}; its samples: {Names(loop.SamplesOf(metrics.Step), samples)}");
            }

            return true;
        }
        catch (BadStepException e)
        {
            log.Step(e.Metrics, 0);
            Save(writer, loop, view);                   // all ranks end here, with the state before the bad step
            Saved(writer.Complete(), view);
            var rule = recipe.Guard.Skip ? $"guard.max_skips is {recipe.Guard.MaxSkips}" : "guard.on_bad_step says stop";
            var way = recipe.Guard.Skip ? "a greater guard.max_skips" : "guard.on_bad_step=skip";
            throw new InvalidInputException(
                $"{recipe.Name} step {e.Metrics.Step}: {e.Metrics.Fault}; {rule}; its samples: {Names(e.Samples, samples)}; step "
                + $"{loop.Progress.Step} is saved: go on with --resume and --set {way}, or from a checkpoint before it", e);
        }
    }

    private void Periodic(CheckpointWriter writer, TrainLoop<T> loop, StageEvaluation<T> evaluation, TrainView view, long totalSteps)
    {
        var step = loop.Progress.Step;
        if (step == totalSteps)
        {
            return;                      // the end evaluates and saves anyway
        }

        if (recipe.Checkpoint.Every > 0 && step % recipe.Checkpoint.Every == 0)
        {
            Save(writer, loop, view);
        }

        Evaluate(evaluation, step, totalSteps);
    }

    private void Evaluate(StageEvaluation<T> evaluation, long step, long totalSteps)
    {
        if (step == totalSteps)
        {
            return;
        }

        if (step > 0 && recipe.Eval.LossEvery > 0 && step % recipe.Eval.LossEvery == 0)
        {
            evaluation.Loss(step);
        }

        if (recipe.Eval.PassEvery > 0 && step % recipe.Eval.PassEvery == 0)
        {
            evaluation.PassAt1(step);
        }
    }

    private static void Save(CheckpointWriter writer, TrainLoop<T> loop, TrainView view)
    {
        if (writer.LastStep == loop.Progress.Step)
        {
            return;
        }

        foreach (var step in TrainCheckpoint.Begin(writer, loop.Progress))
        {
            Saved(step, view);
        }
    }

    private static void Saved(long? step, TrainView view)
    {
        if (step is not null)
        {
            view.Note($"step {step} saved");
        }
    }

    private TrainProgress Restore(CheckpointStore store, CheckpointWriter writer, Optimizer<T> optimizer, string? source, DataFingerprint data)
    {
        var newest = context.Resume ? store.FindNewest(optimizer.Parallelism.World) : null;
        if (newest is not null)
        {
            var progress = TrainCheckpoint.Load(newest, optimizer, context.Stream, data);
            context.Output.WriteLine($"{recipe.Name} continues after step {newest.Info.Step} of {newest.Directory}");
            if (progress.Data is null)
            {
                context.Output.WriteLine($"{recipe.Name}: that checkpoint does not say what it was trained on; the data are taken for the same");
            }

            writer.LastStep = newest.Info.Step;
            return progress with { Data = data };
        }

        if (source is null)
        {
            RandomWeights.Fill(optimizer.Master, context.Recipe.Seed, context.Recipe.Model.InitializerRange);
        }
        else
        {
            HfWeights.Load(source, optimizer.Master, _codec.Tokenizer.VocabularySize);
        }

        optimizer.PublishMaster(context.Stream);
        return TrainProgress.Start with { Data = data };
    }

    /// <summary>Every rank reads all data, to the same samples in the same order; null on all when one was asked to stop meanwhile.</summary>
    private SftDataset? LoadData()
    {
        if (recipe.Data.Files.Count == 0)
        {
            throw new InvalidInputException($"{context.Recipe.File}: data.files of {recipe.Name} names no file to train on");
        }

        SftDataset? dataset = null;
        try
        {
            if (context.Ranks.IsFirst)
            {
                Directory.CreateDirectory(directory);
            }

            dataset = SftDataset.Load(recipe.Data, Encode, _codec.EndToken, _codec.Template is null ? null : _codec.Render);
        }
        catch (OperationCanceledException) when (context.Stop.Token.IsCancellationRequested)
        {
            // the other ranks are told below
        }

        if (context.Ranks.Any(dataset is null))
        {
            return null;
        }

        context.Output.Write($"{recipe.Name} data: {dataset!.Report}");
        return dataset;
    }

    private int[] Encode(string text)
    {
        context.Stop.Token.ThrowIfCancellationRequested();
        return _codec.Tokenizer.Encode(text);
    }

    private Qwen2Config Config(string? source)
    {
        var shapes = context.Recipe.Model.Shapes;
        if (source is null)
        {
            var rows = shapes!.VocabSize == 0 ? _codec.Tokenizer.VocabularySize : shapes.VocabSize;
            return shapes with { VocabSize = rows };
        }

        if (source == context.Recipe.Model.From && !Directory.Exists(source))
        {
            throw new InvalidInputException($"{context.Recipe.File}: model.from is '{source}': no such directory");
        }

        var config = Qwen2Config.Load(source);
        if (source == context.Recipe.Model.From && shapes is not null && shapes.Fingerprint != config.Fingerprint)
        {
            throw new InvalidInputException(
                $"{context.Recipe.File}: model.shapes are {shapes.Fingerprint}, config.json in model.from {source} says {config.Fingerprint}");
        }

        return context.Recipe.Model.VocabRows > 0 ? config with { VocabSize = context.Recipe.Model.VocabRows } : config;
    }

    private void CheckFits(Qwen2Config config, SftDataset dataset)
    {
        var highest = dataset.Train.Concat(dataset.Eval).Max(s => s.Tokens.Max());
        if (highest >= config.VocabSize)
        {
            throw new InvalidInputException(
                $"{context.TokenizerDirectory}: the tokenizer gives id {highest}, the model has {config.VocabSize} vocabulary rows: they do not belong together");
        }

        int[] extents =
        [
            config.HiddenSize, config.IntermediateSize, config.NumAttentionHeads * config.HeadDim, config.NumKeyValueHeads * config.HeadDim, recipe.Train.MicroBatchTokens,
        ];
        if (recipe.Train.Fp8 && Array.Exists(extents, e => e % 16 != 0))
        {
            throw new InvalidInputException(
                $"{recipe.Name}: train.fp8 needs hidden and intermediate size, the widths of queries and keys, and train.micro_batch_tokens to be multiples of 16; "
                + $"they are {string.Join(", ", extents)}");
        }

        if (dataset.Report.LongestSample > Math.Min(recipe.Train.MicroBatchTokens, config.MaxPositionEmbeddings))
        {
            throw new InvalidInputException(
                $"{recipe.Name}: the longest sample has {dataset.Report.LongestSample} tokens; train.micro_batch_tokens is {recipe.Train.MicroBatchTokens} and the "
                + $"model's context {config.MaxPositionEmbeddings}: raise the former, or lower data.max_length");
        }
    }

    private void Export(Optimizer<T> optimizer) => ModelExport.Save(
        Path.Combine(directory, RunFiles.Model), optimizer, context.Stream, typeof(T) == typeof(float) ? SafetensorDtype.F32 : SafetensorDtype.BF16,
        context.TokenizerDirectory, [_codec.EndToken]);

    private static string Names(IEnumerable<int> indices, IReadOnlyList<TokenizedSample> samples)
    {
        const int Most = 16;
        var ids = indices.Select(i => samples[i].Id).ToList();
        return string.Join(", ", ids.Take(Most)) + (ids.Count > Most ? $" and {ids.Count - Most} more" : "");
    }
}
