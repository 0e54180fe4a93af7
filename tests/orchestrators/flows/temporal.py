"""Temporal: the official SDK's worker and client as processes, before a server of this file.

No package registry has Temporal's own server for Linux, so a stand-in speaks its gRPC protocol: workflow and activity
tasks, histories, long polls, and attempts after a death. What is real: the SDK with its core, the sandbox, replay, and
all of the workflow. What is not: Temporal's storage and its timers. A worker's death is told by `lost` at once, where
the real server waits for the heartbeat that does not come.
"""

import threading
import uuid
from concurrent import futures

import frame
import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.command.v1 import message_pb2 as command
from temporalio.api.common.v1 import message_pb2 as common
from temporalio.api.enums.v1 import command_type_pb2 as commands
from temporalio.api.enums.v1 import event_type_pb2 as kinds
from temporalio.api.enums.v1 import namespace_pb2, workflow_pb2
from temporalio.api.history.v1 import message_pb2 as history
from temporalio.api.namespace.v1 import message_pb2 as namespace
from temporalio.api.workflowservice.v1 import request_response_pb2 as wire
from temporalio.api.workflowservice.v1 import service_pb2_grpc

# Where the model failed for good, the workflow has failed: nobody can answer it by hand any more.
SCENES = [*frame.SCENES, frame.the_gate_asks_again, frame.rejected]
EXAMPLE = frame.EXAMPLES / "temporal_flow.py"
LONG_POLL = 20


def now():
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


class Task:
    """Something that a worker is given: a workflow's next turn, or an attempt of an activity."""

    def __init__(self, execution, attributes=None, scheduled=0, attempt=1):
        self.execution, self.attributes, self.scheduled, self.attempt = execution, attributes, scheduled, attempt
        self.token, self.started = uuid.uuid4().bytes, 0


class Execution:
    """One execution of a workflow: its history, and what its history still waits for."""

    def __init__(self, request):
        self.id, self.run, self.request = request.workflow_id, str(uuid.uuid4()), request
        self.history, self.turn, self.previous, self.closed = [], None, 0, False
        self.add(
            kinds.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
            workflow_execution_started_event_attributes=history.WorkflowExecutionStartedEventAttributes(
                workflow_type=request.workflow_type, task_queue=request.task_queue, input=request.input, workflow_id=self.id,
                original_execution_run_id=self.run, first_execution_run_id=self.run, attempt=1, header=request.header,
                workflow_task_timeout=request.workflow_task_timeout, identity=request.identity,
            ),
        )

    def add(self, kind, **attributes):
        event = history.HistoryEvent(event_id=len(self.history) + 1, event_type=kind, event_time=now(), **attributes)
        self.history.append(event)
        return event.event_id

    def name(self):
        return common.WorkflowExecution(workflow_id=self.id, run_id=self.run)


class Server(service_pb2_grpc.WorkflowServiceServicer):
    """One namespace, one task queue, no timers, signals or children: what the example needs of Temporal."""

    def __init__(self):
        self.changed = threading.Condition()
        self.executions, self.turns, self.attempts, self.handed, self.life = [], [], [], {}, 0
        self.grpc = grpc.server(futures.ThreadPoolExecutor(64))
        service_pb2_grpc.add_WorkflowServiceServicer_to_server(self, self.grpc)
        self.port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()

    def close(self):
        self.grpc.stop(0)

    def lost(self):
        """All workers are dead: what they had is given out anew, and what they wait for is not given to them."""
        with self.changed:
            self.life += 1
            frame.check(self.handed, "the worker was killed when it had nothing to do")
            for task in self.handed.values():
                if task.attributes is None:
                    task.execution.add(
                        kinds.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
                        workflow_task_timed_out_event_attributes=history.WorkflowTaskTimedOutEventAttributes(
                            scheduled_event_id=task.scheduled, started_event_id=task.started
                        ),
                    )
                    task.execution.turn = None
                    self.schedule(task.execution)
                else:
                    self.attempts.append(Task(task.execution, task.attributes, task.scheduled, task.attempt + 1))
            self.handed.clear()
            self.changed.notify_all()

    # === Inside, with the lock held ===

    def schedule(self, execution):
        """A turn for the workflow."""
        scheduled = execution.add(
            kinds.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
            workflow_task_scheduled_event_attributes=history.WorkflowTaskScheduledEventAttributes(
                task_queue=execution.request.task_queue, attempt=1, start_to_close_timeout=execution.request.workflow_task_timeout
            ),
        )
        execution.turn = Task(execution, scheduled=scheduled)
        self.turns.append(execution.turn)
        self.changed.notify_all()

    def take(self, queue, context):
        """The next task of a queue for a poll; none if its worker died or the poll is over."""
        context.add_callback(self.wake)
        with self.changed:
            life = self.life
            self.changed.wait_for(lambda: queue or life != self.life or not context.is_active(), LONG_POLL)
            if not queue or life != self.life or not context.is_active():
                return None
            task = queue.pop(0)
            self.handed[task.token] = task
            return task

    def wake(self):
        with self.changed:
            self.changed.notify_all()

    def handed_back(self, token, context):
        task = self.handed.pop(token, None)
        if task is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "this task is somebody else's now")
        return task

    # === What a client asks ===

    def GetSystemInfo(self, request, context):
        capabilities = wire.GetSystemInfoResponse.Capabilities(sdk_metadata=True, activity_failure_include_heartbeat=True)
        return wire.GetSystemInfoResponse(server_version="1.29.0", capabilities=capabilities)

    def DescribeNamespace(self, request, context):
        info = namespace.NamespaceInfo(name=request.namespace, state=namespace_pb2.NAMESPACE_STATE_REGISTERED)
        return wire.DescribeNamespaceResponse(namespace_info=info)

    def StartWorkflowExecution(self, request, context):
        with self.changed:
            running = [each for each in self.executions if each.id == request.workflow_id and not each.closed]
            if running:
                joins = request.workflow_id_conflict_policy == workflow_pb2.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
                frame.check(joins, "the example starts a workflow that runs, and does not join it")
                return wire.StartWorkflowExecutionResponse(run_id=running[0].run, started=False)
            execution = Execution(request)
            self.executions.append(execution)
            self.schedule(execution)
            return wire.StartWorkflowExecutionResponse(run_id=execution.run, started=True)

    def GetWorkflowExecutionHistory(self, request, context):
        """Only what a client that waits for the result asks: the last event, by long poll."""
        context.add_callback(self.wake)
        with self.changed:
            execution = next(each for each in self.executions if each.run == request.execution.run_id)
            self.changed.wait_for(lambda: execution.closed or not context.is_active(), LONG_POLL)
            if execution.closed:
                return wire.GetWorkflowExecutionHistoryResponse(history=history.History(events=execution.history[-1:]))
            return wire.GetWorkflowExecutionHistoryResponse(history=history.History(), next_page_token=b"again")

    # === What a worker asks ===

    def ShutdownWorker(self, request, context):
        return wire.ShutdownWorkerResponse()

    def PollWorkflowTaskQueue(self, request, context):
        # Sticky queues get nothing: each turn comes with the whole history, as it does when a worker was lost.
        sticky = bool(request.task_queue.normal_name)
        task = self.take([] if sticky else self.turns, context)
        if task is None:
            return wire.PollWorkflowTaskQueueResponse()
        with self.changed:
            execution = task.execution
            task.started = execution.add(
                kinds.EVENT_TYPE_WORKFLOW_TASK_STARTED,
                workflow_task_started_event_attributes=history.WorkflowTaskStartedEventAttributes(
                    scheduled_event_id=task.scheduled, identity=request.identity, request_id=str(uuid.uuid4())
                ),
            )
            return wire.PollWorkflowTaskQueueResponse(
                task_token=task.token, workflow_execution=execution.name(), workflow_type=execution.request.workflow_type,
                previous_started_event_id=execution.previous, started_event_id=task.started, attempt=1,
                history=history.History(events=execution.history), scheduled_time=now(), started_time=now(),
                workflow_execution_task_queue=execution.request.task_queue,
            )

    def RespondWorkflowTaskCompleted(self, request, context):
        with self.changed:
            task = self.handed_back(request.task_token, context)
            execution = task.execution
            completed = execution.add(
                kinds.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
                workflow_task_completed_event_attributes=history.WorkflowTaskCompletedEventAttributes(
                    scheduled_event_id=task.scheduled, started_event_id=task.started, identity=request.identity,
                    sdk_metadata=request.sdk_metadata, metering_metadata=request.metering_metadata,
                ),
            )
            execution.previous, execution.turn = task.started, None
            for each in request.commands:
                self.obey(execution, completed, each)
            self.changed.notify_all()
        return wire.RespondWorkflowTaskCompletedResponse()

    def RespondWorkflowTaskFailed(self, request, context):
        """A workflow that can't be replayed, or is no workflow: the example's fault or this server's."""
        with self.changed:
            task = self.handed_back(request.task_token, context)
            self.end(task.execution, failure=request.failure)
        return wire.RespondWorkflowTaskFailedResponse()

    def PollActivityTaskQueue(self, request, context):
        task = self.take(self.attempts, context)
        if task is None:
            return wire.PollActivityTaskQueueResponse()
        asked, execution = task.attributes, task.execution
        return wire.PollActivityTaskQueueResponse(
            task_token=task.token, workflow_namespace=request.namespace, workflow_type=execution.request.workflow_type,
            workflow_execution=execution.name(), activity_type=asked.activity_type, activity_id=asked.activity_id,
            header=asked.header, input=asked.input, attempt=task.attempt, scheduled_time=now(), started_time=now(),
            current_attempt_scheduled_time=now(), schedule_to_close_timeout=asked.schedule_to_close_timeout,
            start_to_close_timeout=asked.start_to_close_timeout, heartbeat_timeout=asked.heartbeat_timeout, retry_policy=asked.retry_policy,
        )

    def RecordActivityTaskHeartbeat(self, request, context):
        with self.changed:
            if request.task_token not in self.handed:
                context.abort(grpc.StatusCode.NOT_FOUND, "this task is somebody else's now")
        return wire.RecordActivityTaskHeartbeatResponse()

    def RespondActivityTaskCompleted(self, request, context):
        with self.changed:
            task = self.handed_back(request.task_token, context)
            self.heard(
                task, kinds.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, "activity_task_completed_event_attributes",
                history.ActivityTaskCompletedEventAttributes(result=request.result, scheduled_event_id=task.scheduled),
            )
        return wire.RespondActivityTaskCompletedResponse()

    def RespondActivityTaskFailed(self, request, context):
        with self.changed:
            task = self.handed_back(request.task_token, context)
            if not request.failure.application_failure_info.non_retryable:
                # The policy's first pause; what fails on and on fails the scene by its patience.
                again = Task(task.execution, task.attributes, task.scheduled, task.attempt + 1)
                threading.Timer(1, self.again, [again]).start()
                return wire.RespondActivityTaskFailedResponse()
            self.heard(
                task, kinds.EVENT_TYPE_ACTIVITY_TASK_FAILED, "activity_task_failed_event_attributes",
                history.ActivityTaskFailedEventAttributes(failure=request.failure, scheduled_event_id=task.scheduled),
            )
        return wire.RespondActivityTaskFailedResponse()

    def again(self, task):
        with self.changed:
            self.attempts.append(task)
            self.changed.notify_all()

    # === Commands and results, with the lock held ===

    def obey(self, execution, completed, given: command.Command):
        if given.command_type == commands.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:
            asked = given.schedule_activity_task_command_attributes
            scheduled = execution.add(
                kinds.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
                activity_task_scheduled_event_attributes=history.ActivityTaskScheduledEventAttributes(
                    activity_id=asked.activity_id, activity_type=asked.activity_type, task_queue=asked.task_queue, header=asked.header,
                    input=asked.input, start_to_close_timeout=asked.start_to_close_timeout, heartbeat_timeout=asked.heartbeat_timeout,
                    retry_policy=asked.retry_policy, workflow_task_completed_event_id=completed,
                ),
            )
            self.attempts.append(Task(execution, asked, scheduled))
        elif given.command_type == commands.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
            self.end(execution, result=given.complete_workflow_execution_command_attributes.result)
        elif given.command_type == commands.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
            self.end(execution, failure=given.fail_workflow_execution_command_attributes.failure)
        else:
            raise frame.Failed(f"the stand-in for Temporal does not know {given}")

    def heard(self, task, kind, name, attributes):
        """An activity's end, told to its workflow; as in Temporal its start is written only now."""
        execution = task.execution
        frame.check(execution.turn is None, "the example's activities run one after the other")
        attributes.started_event_id = execution.add(
            kinds.EVENT_TYPE_ACTIVITY_TASK_STARTED,
            activity_task_started_event_attributes=history.ActivityTaskStartedEventAttributes(scheduled_event_id=task.scheduled, attempt=task.attempt),
        )
        execution.add(kind, **{name: attributes})
        self.schedule(execution)

    def end(self, execution, result=None, failure=None):
        if failure is None:
            told = history.WorkflowExecutionCompletedEventAttributes(result=result)
            execution.add(kinds.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, workflow_execution_completed_event_attributes=told)
        else:
            told = history.WorkflowExecutionFailedEventAttributes(failure=failure)
            execution.add(kinds.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, workflow_execution_failed_event_attributes=told)
        execution.closed = True
        self.changed.notify_all()


class Started:
    """A client that waits for the result, and the worker that all clients share."""

    def __init__(self, flow, run):
        self.flow, self.client = flow, flow.process(run, "start.log")

    def wait(self):
        return self.client.wait()

    def kill(self):
        self.flow.worker.kill()
        self.flow.worker = None
        self.client.kill()
        self.flow.server.lost()


class Flow:
    def setup(self, world):
        self.world, self.worker, self.server = world, None, None
        self.server = Server()

    def process(self, what, log):
        env = {"HOLDFAST_URL": self.world.gateway.url, "TEMPORAL_ADDRESS": f"127.0.0.1:{self.server.port}"}
        return frame.Process([frame.python(), str(EXAMPLE), what], env, self.world.directory, self.world.directory / log)

    def start(self, run):
        if self.worker is None:
            self.worker = self.process("worker", "worker.log")
        return Started(self, run)

    def close(self):
        if self.worker:
            self.worker.kill()
        if self.server:
            self.server.close()
